// ioredis before weft: `with_ioredis.js PORT X Y Z`, where X, Y and Z are keys on three shards.

import assert from "node:assert/strict";
import Redis from "ioredis";

const [port, x, y, z] = process.argv.slice(2);
const connected = (options) => new Redis(Number(port), "127.0.0.1", { ...options });
const r = connected({ connectionName: "matrix" });

async function handshake() {
  assert.equal(await r.ping(), "PONG");
  assert.equal(await r.client("GETNAME"), "matrix");
  assert.match(await r.client("INFO"), / lib-name=ioredis/);
  assert.match(await r.info("server"), /redis_version:\d/);
}

async function types() {
  assert.equal(await r.set(x, "value", "EX", 100), "OK");
  assert.ok((await r.ttl(x)) > 90);
  const bytes = Buffer.from([0, 13, 10, 255]);
  await r.set(y, bytes);
  assert.deepEqual(await r.getBuffer(y), bytes);
  assert.equal(await r.mset({ [x]: "1", [y]: "2" }), "OK");
  assert.deepEqual(await r.mget(x, y, z), ["1", "2", null]);
  assert.equal(await r.incrbyfloat(x, 0.5), "1.5");
  assert.equal(await r.del(x, y, z), 2);

  assert.equal(await r.hset(x, { a: "1", b: "2" }), 2);
  assert.deepEqual(await r.hgetall(x), { a: "1", b: "2" });
  assert.equal(await r.hincrby(x, "a", 5), 6);
  assert.equal(await r.rpush(y, "a", "b", "c"), 3);
  assert.equal(await r.lmove(y, z, "LEFT", "RIGHT"), "a");
  assert.deepEqual([await r.lrange(y, 0, -1), await r.lrange(z, 0, -1)], [["b", "c"], ["a"]]);
  assert.equal(await r.del(x, y, z), 3);

  await r.sadd(x, "a", "b");
  await r.sadd(y, "b", "c");
  assert.deepEqual(await r.sinter(x, y), ["b"]);
  assert.equal(await r.sunionstore(z, x, y), 3);
  assert.equal(await r.sismember(z, "c"), 1);
  assert.equal(await r.del(x, y, z), 3);

  assert.equal(await r.zadd(x, 1, "a", 2.5, "b"), 2);
  assert.equal(await r.zscore(x, "b"), "2.5");
  assert.deepEqual(await r.zrange(x, 0, -1, "WITHSCORES"), ["a", "1", "b", "2.5"]);
  assert.deepEqual(await r.zpopmax(x), ["b", "2.5"]);
  const id = await r.xadd(y, "*", "field", "value");
  assert.equal(await r.xgroup("CREATE", y, "group", "0"), "OK");
  await r.xadd(z, "1-1", "other", "shard");
  assert.deepEqual(await r.xread("STREAMS", y, z, "0", "0"), [[y, [[id, ["field", "value"]]]], [z, [["1-1", ["other", "shard"]]]]]);
  assert.deepEqual(await r.xreadgroup("GROUP", "group", "me", "STREAMS", y, ">"), [[y, [[id, ["field", "value"]]]]]);
  assert.equal(await r.xack(y, "group", id), 1);
  assert.equal(await r.del(x, y, z), 3);

  assert.equal(await r.setbit(x, 7, 1), 0);
  assert.equal(await r.bitcount(x), 1);
  assert.equal(await r.pfadd(y, "a", "b"), 1);
  assert.equal(await r.pfadd(z, "b", "c"), 1);
  assert.equal(await r.pfcount(y, z), 3);
  assert.equal(await r.del(x, y, z), 3);
  assert.equal(await r.geoadd(x, 13.361, 38.115, "Palermo"), 1);
  assert.deepEqual(await r.geosearch(x, "FROMLONLAT", 13, 38, "BYRADIUS", 100, "km"), ["Palermo"]);

  await r.mset(y, "1", z, "2");
  const found = [];
  for await (const keys of r.scanStream({ match: "k*", count: 1000 })) found.push(...keys);
  assert.deepEqual([x, y, z].filter((key) => !found.includes(key)), []);
  assert.equal(await r.del(x, y, z), 3);
}

async function transactions() {
  const replies = await r.multi().set(x, "1").incr(y).hset(z, "a", "1").hgetall(z).mget(x, y).exec();
  assert.deepEqual(replies, [[null, "OK"], [null, 1], [null, 1], [null, { a: "1" }], [null, ["1", "1"]]]);

  // An error of one command stands beside the replies of the others, which are applied.
  const [first, second, third] = await r.multi().incr(x).lpush(x, "a").incr(y).exec();
  assert.deepEqual([first, third], [[null, 2], [null, 2]]);
  assert.match(second[0].message, /^WRONGTYPE/);
  // What cannot be queued aborts everything.
  await assert.rejects(r.multi().incr(x).call("GET").incr(y).exec(), /^ReplyError: EXECABORT/);
  await r.multi({ pipeline: false });
  assert.equal(await r.incr(x), "QUEUED");
  assert.equal(await r.discard(), "OK");
  assert.deepEqual(await r.mget(x, y), ["2", "2"]);

  const other = connected();
  await r.watch(x, y);
  await other.set(y, "theirs");
  assert.equal(await r.multi().set(x, "mine").set(y, "mine").exec(), null);
  await r.watch(x, y);
  assert.deepEqual(await r.multi().set(x, "mine").set(y, "mine").exec(), [[null, "OK"], [null, "OK"]]);
  assert.deepEqual(await r.mget(x, y), ["mine", "mine"]);
  other.disconnect();

  assert.equal(await r.del(x, y, z), 3);
  const pipeline = r.pipeline();
  for (let n = 0; n < 300; n++) pipeline.incr([x, y, z][n % 3]);
  assert.deepEqual(await pipeline.exec(), Array.from({ length: 300 }, (_, n) => [null, Math.floor(n / 3) + 1]));
  // ioredis gathers the commands of one tick in a pipeline of its own.
  const batching = connected({ enableAutoPipelining: true });
  assert.deepEqual(await Promise.all([x, y, z].map((key) => batching.get(key))), ["100", "100", "100"]);
  batching.disconnect();
  assert.equal(await r.del(x, y, z), 3);
}

async function pubSub() {
  const subscriber = connected();
  const heard = [];
  const all = new Promise((resolve) => {
    const hear = (channel, message) => heard.push([channel, message]) === 3 && resolve();
    subscriber.on("message", hear);
    subscriber.on("pmessage", (_, channel, message) => hear(channel, message));
  });
  assert.equal(await subscriber.subscribe(x), 1);
  assert.equal(await subscriber.psubscribe(`${y}:*`), 2);
  assert.equal(await r.publish(x, "one"), 1);
  await r.publish(`${y}:a`, "two");
  await r.multi().publish(x, "three").incr(z).exec();
  await all;
  assert.deepEqual(heard.sort(), [[x, "one"], [x, "three"], [`${y}:a`, "two"]].sort());
  assert.deepEqual(await r.pubsub("NUMSUB", x), [x, 1]);

  // A subscriber that loses its connection subscribes again by itself.
  subscriber.stream.destroy();
  let again = false;
  subscriber.on("message", (_, message) => (again ||= message === "again"));
  while (!again) await r.publish(x, "again");
  await subscriber.unsubscribe(x);
  await subscriber.punsubscribe();
  assert.equal(await subscriber.ping(), "PONG");
  subscriber.disconnect();
  assert.equal(await r.del(z), 1);
}

async function blocking() {
  const waiter = connected();
  const waiting = waiter.blpop(x, y, z, 30);
  await r.rpush(z, "a", "b");
  assert.deepEqual(await waiting, [z, "a"]);
  assert.equal(await waiter.blmove(z, x, "LEFT", "LEFT", 30), "b");
  assert.equal(await waiter.blpop(y, z, 0.05), null);
  const lowest = waiter.bzpopmin(y, z, 30);
  await r.zadd(y, 1.5, "m");
  assert.deepEqual(await lowest, [y, "m", "1.5"]);
  const entries = waiter.xread("BLOCK", 30_000, "STREAMS", y, z, "$", "0");
  await r.xadd(z, "1-1", "a", "b");
  assert.deepEqual(await entries, [[z, [["1-1", ["a", "b"]]]]]);
  waiter.disconnect();
  assert.equal(await r.del(x, z), 2);
}

async function scripts() {
  assert.deepEqual(await r.eval("return {KEYS[1], ARGV[1]}", 1, x, "a"), [x, "a"]);
  await assert.rejects(r.evalsha("0".repeat(40), 1, x), /NOSCRIPT/);
  // EVALSHA first, and EVAL when the script is not known.
  r.defineCommand("move", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
  assert.equal(await r.move(x, 5), 5);
  assert.equal(await r.move(y, 5), 5);
  const sha = await r.script("LOAD", "return redis.call('GET', KEYS[1])");
  assert.deepEqual(await r.script("EXISTS", sha), [1]);
  assert.equal(await r.evalsha(sha, 1, x), "5");
  assert.deepEqual(await r.multi().move(x, 1).move(y, 2).incr(z).exec(), [[null, 6], [null, 7], [null, 1]]);
  assert.equal(await r.del(x, y, z), 3);
}

for (const check of [handshake, types, transactions, pubSub, blocking, scripts]) {
  await check();
  console.log(check.name, "RESP2");
}
await r.quit();
