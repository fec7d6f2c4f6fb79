/*
 * hiredis before weft: `hiredis PORT X Y Z`, where X, Y and Z are keys on three shards.
 *
 * Commands and expected replies stand beside each other. A reply is shown on one line: +status, -the first word of an error, :integer,
 * 'string', nil, [array].
 */

#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int port;
static const char *x, *y, *z;

static void fail(int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "hiredis.c:%d: ", line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static redisContext *connected(void) {
    redisContext *c = redisConnect("127.0.0.1", port);
    struct timeval patience = {30, 0};
    if (!c || c->err || redisSetTimeout(c, patience) != REDIS_OK) fail(__LINE__, "no connection: %s", c ? c->errstr : "no memory");
    return c;
}

static void show(const redisReply *reply, char **to, const char *end) {
    switch (reply->type) {
    case REDIS_REPLY_STATUS: *to += snprintf(*to, end - *to, "+%s", reply->str); break;
    case REDIS_REPLY_ERROR: *to += snprintf(*to, end - *to, "-%.*s", (int)strcspn(reply->str, " "), reply->str); break;
    case REDIS_REPLY_INTEGER: *to += snprintf(*to, end - *to, ":%lld", reply->integer); break;
    case REDIS_REPLY_STRING: *to += snprintf(*to, end - *to, "'%s'", reply->str); break;
    case REDIS_REPLY_NIL: *to += snprintf(*to, end - *to, "nil"); break;
    case REDIS_REPLY_ARRAY:
        *to += snprintf(*to, end - *to, "[");
        for (size_t n = 0; n < reply->elements; n++) {
            *to += snprintf(*to, end - *to, "%s", n ? " " : "");
            show(reply->element[n], to, end);
        }
        *to += snprintf(*to, end - *to, "]");
    }
}

/* Replaces each X, Y and Z that stands alone by the key. */
static const char *with_keys(const char *text) {
    static char texts[2][1024];
    static int turn;
    char *to = texts[turn ^= 1], *start = to;
    for (const char *at = text; *at; at++) {
        const char *key = *at == 'X' ? x : *at == 'Y' ? y : *at == 'Z' ? z : NULL;
        int alone = (at == text || strchr(" '[", at[-1])) && strchr(" ':]*", at[1]);
        to += key && alone ? sprintf(to, "%s", key) : sprintf(to, "%c", *at);
    }
    *to = 0;
    return start;
}

static void must_reply(int line, redisReply *reply, const char *expected) {
    char shown[4096], *to = shown;
    if (!reply) fail(line, "no reply, expected %s", expected);
    show(reply, &to, shown + sizeof shown);
    freeReplyObject(reply);
    expected = with_keys(expected);
    if (strcmp(shown, expected)) fail(line, "expected %s, not %s", expected, shown);
}

static redisReply *next(redisContext *c) {
    void *reply;
    if (redisGetReply(c, &reply) != REDIS_OK) fail(__LINE__, "%s", c->errstr);
    return reply;
}

#define CALL(c, command, expected) must_reply(__LINE__, redisCommand(c, with_keys(command)), expected)
#define SEND(c, command) redisAppendCommand(c, with_keys(command))
#define MUST_GET(c, expected) must_reply(__LINE__, next(c), expected)

static void handshake(redisContext *c) {
    CALL(c, "PING", "+PONG");
    CALL(c, "CLIENT SETNAME matrix", "+OK");
    CALL(c, "CLIENT GETNAME", "'matrix'");
    redisReply *info = redisCommand(c, "INFO server");
    if (!info || info->type != REDIS_REPLY_STRING || !strstr(info->str, "redis_version:")) fail(__LINE__, "INFO tells no version");
    freeReplyObject(info);
}

static void must_scan(redisContext *c, const char *key) {
    char cursor[32] = "0";
    size_t found = 0;
    do {
        redisReply *reply = redisCommand(c, "SCAN %s MATCH %s COUNT 1000", cursor, key);
        if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) fail(__LINE__, "SCAN answers a cursor and keys");
        found += reply->element[1]->elements;
        snprintf(cursor, sizeof cursor, "%s", reply->element[0]->str);
        freeReplyObject(reply);
    } while (strcmp(cursor, "0"));
    if (found != 1) fail(__LINE__, "%zu keys %s", found, key);
}

static void types(redisContext *c) {
    CALL(c, "SET X value EX 100", "+OK");
    CALL(c, "PERSIST X", ":1");
    must_reply(__LINE__, redisCommand(c, "SET %s %b", y, "\0\r\n\xff", (size_t)4), "+OK");
    CALL(c, "STRLEN Y", ":4");
    CALL(c, "MSET X 1 Y 2", "+OK");
    CALL(c, "MGET X Y Z", "['1' '2' nil]");
    CALL(c, "INCRBYFLOAT X 0.5", "'1.5'");
    CALL(c, "DEL X Y Z", ":2");

    CALL(c, "HSET X a 1 b 2", ":2");
    CALL(c, "HGETALL X", "['a' '1' 'b' '2']");
    CALL(c, "HINCRBY X a 5", ":6");
    CALL(c, "RPUSH Y a b c", ":3");
    CALL(c, "LMOVE Y Z LEFT RIGHT", "'a'");
    CALL(c, "LRANGE Y 0 -1", "['b' 'c']");
    CALL(c, "LRANGE Z 0 -1", "['a']");
    CALL(c, "DEL X Y Z", ":3");

    CALL(c, "SADD X a b", ":2");
    CALL(c, "SADD Y b c", ":2");
    CALL(c, "SINTER X Y", "['b']");
    CALL(c, "SUNIONSTORE Z X Y", ":3");
    CALL(c, "SISMEMBER Z c", ":1");
    CALL(c, "DEL X Y Z", ":3");

    CALL(c, "ZADD X 1 a 2.5 b", ":2");
    CALL(c, "ZRANGE X 0 -1 WITHSCORES", "['a' '1' 'b' '2.5']");
    CALL(c, "ZPOPMAX X", "['b' '2.5']");
    CALL(c, "XADD Y 1-1 field value", "'1-1'");
    CALL(c, "XADD Z 2-1 other shard", "'2-1'");
    CALL(c, "XREAD STREAMS Y Z 0 0", "[['Y' [['1-1' ['field' 'value']]]] ['Z' [['2-1' ['other' 'shard']]]]]");
    CALL(c, "XGROUP CREATE Y group 0", "+OK");
    CALL(c, "XREADGROUP GROUP group me STREAMS Y >", "[['Y' [['1-1' ['field' 'value']]]]]");
    CALL(c, "XACK Y group 1-1", ":1");
    CALL(c, "DEL X Y Z", ":3");

    CALL(c, "SETBIT X 7 1", ":0");
    CALL(c, "BITCOUNT X", ":1");
    CALL(c, "PFADD Y a b", ":1");
    CALL(c, "PFADD Z b c", ":1");
    CALL(c, "PFCOUNT Y Z", ":3");
    CALL(c, "DEL X Y Z", ":3");
    CALL(c, "GEOADD X 13.361 38.115 Palermo", ":1");
    CALL(c, "GEOSEARCH X FROMLONLAT 13 38 BYRADIUS 100 km", "['Palermo']");
    must_scan(c, x);
    CALL(c, "DEL X", ":1");
}

static void transactions(redisContext *c) {
    CALL(c, "MULTI", "+OK");
    CALL(c, "SET X 1", "+QUEUED");
    CALL(c, "INCR Y", "+QUEUED");
    CALL(c, "LPUSH X a", "+QUEUED");
    CALL(c, "HSET Z a 1", "+QUEUED");
    CALL(c, "MGET X Y", "+QUEUED");
    CALL(c, "EXEC", "[+OK :1 -WRONGTYPE :1 ['1' '1']]");
    CALL(c, "MULTI", "+OK");
    CALL(c, "INCR X", "+QUEUED");
    CALL(c, "GET", "-ERR");
    CALL(c, "EXEC", "-EXECABORT");
    CALL(c, "MULTI", "+OK");
    CALL(c, "INCR X", "+QUEUED");
    CALL(c, "DISCARD", "+OK");
    CALL(c, "MGET X Y", "['1' '1']");

    redisContext *other = connected();
    CALL(c, "WATCH X Y", "+OK");
    CALL(other, "SET Y theirs", "+OK");
    CALL(c, "MULTI", "+OK");
    CALL(c, "SET X mine", "+QUEUED");
    CALL(c, "SET Y mine", "+QUEUED");
    CALL(c, "EXEC", "nil");
    CALL(c, "WATCH X Y", "+OK");
    CALL(c, "MULTI", "+OK");
    CALL(c, "SET X mine", "+QUEUED");
    CALL(c, "SET Y mine", "+QUEUED");
    CALL(c, "EXEC", "[+OK +OK]");
    CALL(other, "MGET X Y", "['mine' 'mine']");
    redisFree(other);
    CALL(c, "DEL X Y Z", ":3");

    /* A pipeline, with a transaction in it. */
    for (int n = 0; n < 300; n++) SEND(c, n % 3 == 0 ? "INCR X" : n % 3 == 1 ? "INCR Y" : "INCR Z");
    SEND(c, "MULTI");
    SEND(c, "INCR X");
    SEND(c, "INCR Z");
    SEND(c, "EXEC");
    for (int n = 0; n < 300; n++) {
        char expected[16];
        snprintf(expected, sizeof expected, ":%d", n / 3 + 1);
        MUST_GET(c, expected);
    }
    MUST_GET(c, "+OK");
    MUST_GET(c, "+QUEUED");
    MUST_GET(c, "+QUEUED");
    MUST_GET(c, "[:101 :101]");
    CALL(c, "DEL X Y Z", ":3");
}

static void pub_sub(redisContext *c) {
    redisContext *subscriber = connected();
    CALL(subscriber, "SUBSCRIBE X", "['subscribe' 'X' :1]");
    CALL(subscriber, "PSUBSCRIBE Y:*", "['psubscribe' 'Y:*' :2]");
    CALL(c, "PUBLISH X one", ":1");
    MUST_GET(subscriber, "['message' 'X' 'one']");
    CALL(c, "PUBLISH Y:a two", ":1");
    MUST_GET(subscriber, "['pmessage' 'Y:*' 'Y:a' 'two']");
    CALL(c, "MULTI", "+OK");
    CALL(c, "PUBLISH X three", "+QUEUED");
    CALL(c, "INCR Z", "+QUEUED");
    CALL(c, "EXEC", "[:1 :1]");
    MUST_GET(subscriber, "['message' 'X' 'three']");
    CALL(c, "PUBSUB NUMSUB X", "['X' :1]");
    CALL(subscriber, "UNSUBSCRIBE", "['unsubscribe' 'X' :1]");
    CALL(subscriber, "PUNSUBSCRIBE", "['punsubscribe' 'Y:*' :0]");
    CALL(subscriber, "PING", "+PONG");
    redisFree(subscriber);
    CALL(c, "DEL Z", ":1");
}

static void must_flush(redisContext *c) {
    int done = 0;
    while (!done)
        if (redisBufferWrite(c, &done) != REDIS_OK) fail(__LINE__, "%s", c->errstr);
}

static void blocking(redisContext *c) {
    redisContext *waiter = connected();
    SEND(waiter, "BLPOP X Y Z 20");
    must_flush(waiter);
    CALL(c, "RPUSH Z a b", ":2");
    MUST_GET(waiter, "['Z' 'a']");
    CALL(waiter, "BLMOVE Z X LEFT LEFT 20", "'b'");
    CALL(waiter, "BLPOP Y Z 0.05", "nil");
    SEND(waiter, "BZPOPMIN Y Z 20");
    must_flush(waiter);
    CALL(c, "ZADD Y 1.5 m", ":1");
    MUST_GET(waiter, "['Y' 'm' '1.5']");
    SEND(waiter, "XREAD BLOCK 20000 STREAMS Y Z $ 0");
    must_flush(waiter);
    CALL(c, "XADD Z 1-1 a b", "'1-1'");
    MUST_GET(waiter, "[['Z' [['1-1' ['a' 'b']]]]]");
    redisFree(waiter);
    CALL(c, "DEL X Z", ":2");
}

static void scripts(redisContext *c) {
    const char *script = "return redis.call('INCRBY',KEYS[1],ARGV[1])";
    must_reply(__LINE__, redisCommand(c, "EVAL %s 1 %s 5", script, x), ":5");
    CALL(c, "EVALSHA 0000000000000000000000000000000000000000 1 X", "-NOSCRIPT");
    redisReply *sha = redisCommand(c, "SCRIPT LOAD %s", script);
    if (!sha || sha->type != REDIS_REPLY_STRING) fail(__LINE__, "SCRIPT LOAD tells no digest");
    must_reply(__LINE__, redisCommand(c, "SCRIPT EXISTS %s", sha->str), "[:1]");
    CALL(c, "MULTI", "+OK");
    must_reply(__LINE__, redisCommand(c, "EVALSHA %s 1 %s 1", sha->str, x), "+QUEUED");
    must_reply(__LINE__, redisCommand(c, "EVALSHA %s 1 %s 2", sha->str, y), "+QUEUED");
    CALL(c, "INCR Z", "+QUEUED");
    CALL(c, "EXEC", "[:6 :2 :1]");
    freeReplyObject(sha);
    CALL(c, "DEL X Y Z", ":3");
}

#define CHECK(check) check(c), puts(#check " RESP2")

int main(int count, char **words) {
    if (count != 5) fail(__LINE__, "usage: hiredis PORT X Y Z");
    port = atoi(words[1]);
    x = words[2], y = words[3], z = words[4];
    redisContext *c = connected();
    CHECK(handshake);
    CHECK(types);
    CHECK(transactions);
    CHECK(pub_sub);
    CHECK(blocking);
    CHECK(scripts);
    redisFree(c);
    return 0;
}
