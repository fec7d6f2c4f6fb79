<?php
// phpredis before weft: `php_redis.php PORT X Y Z`, where X, Y and Z are keys on three shards.

[, $port, $x, $y, $z] = $argv;

function same($expected, $actual): void
{
    if ($expected !== $actual) {
        $line = debug_backtrace()[0]['line'];
        fwrite(STDERR, "php_redis.php:$line: expected " . var_export($expected, true) . ', not ' . var_export($actual, true) . "\n");
        exit(1);
    }
}

function connected(): Redis
{
    global $port;
    $redis = new Redis();
    // An answer that takes longer than this is none.
    $redis->connect('127.0.0.1', (int) $port, 30, null, 0, 30);
    return $redis;
}

function handshake(Redis $r): void
{
    same(true, $r->ping());
    same(true, $r->client('setname', 'matrix'));
    same('matrix', $r->client('getname'));
    same(true, isset($r->info('server')['redis_version']));
}

function types(Redis $r): void
{
    global $x, $y, $z;
    same(true, $r->set($x, 'value', ['ex' => 100]));
    same(true, $r->ttl($x) > 90);
    $r->set($y, "\0\r\n\xff");
    same("\0\r\n\xff", $r->get($y));
    same(true, $r->mset([$x => '1', $y => '2']));
    same(['1', '2', false], $r->mget([$x, $y, $z]));
    same(1.5, $r->incrByFloat($x, 0.5));
    same(2, $r->del($x, $y, $z));

    same(true, $r->hMSet($x, ['a' => '1', 'b' => '2']));
    same(['a' => '1', 'b' => '2'], $r->hGetAll($x));
    same(6, $r->hIncrBy($x, 'a', 5));
    same(3, $r->rPush($y, 'a', 'b', 'c'));
    same('c', $r->rPopLPush($y, $z));
    same([['a', 'b'], ['c']], [$r->lRange($y, 0, -1), $r->lRange($z, 0, -1)]);
    same(3, $r->del($x, $y, $z));

    $r->sAdd($x, 'a', 'b');
    $r->sAdd($y, 'b', 'c');
    same(['b'], $r->sInter($x, $y));
    same(3, $r->sUnionStore($z, $x, $y));
    same(true, $r->sIsMember($z, 'c'));
    same(3, $r->del($x, $y, $z));

    same(2, $r->zAdd($x, 1, 'a', 2.5, 'b'));
    same(2.5, $r->zScore($x, 'b'));
    same(['a' => 1.0, 'b' => 2.5], $r->zRange($x, 0, -1, true));
    same(['b' => 2.5], $r->zPopMax($x));
    $id = $r->xAdd($y, '*', ['field' => 'value']);
    same(true, $r->xGroup('CREATE', $y, 'group', '0'));
    $r->xAdd($z, '1-1', ['other' => 'shard']);
    same([$y => [$id => ['field' => 'value']], $z => ['1-1' => ['other' => 'shard']]], $r->xRead([$y => '0', $z => '0']));
    same([$y => [$id => ['field' => 'value']]], $r->xReadGroup('group', 'me', [$y => '>']));
    same(1, $r->xAck($y, 'group', [$id]));
    same(3, $r->del($x, $y, $z));

    same(0, $r->setBit($x, 7, true));
    same(1, $r->bitCount($x));
    same(true, (bool) $r->pfAdd($y, ['a', 'b']));
    same(true, (bool) $r->pfAdd($z, ['b', 'c']));
    same(3, $r->pfCount([$y, $z]));
    same(3, $r->del($x, $y, $z));
    same(1, $r->geoAdd($x, 13.361, 38.115, 'Palermo'));
    same(['Palermo'], $r->geoRadius($x, 13, 38, 100, 'km'));

    $r->mset([$y => '1', $z => '2']);
    $r->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    [$cursor, $found] = [null, []];
    while (($keys = $r->scan($cursor, 'k*', 1000)) !== false) {
        $found = array_merge($found, $keys);
    }
    same([], array_values(array_diff([$x, $y, $z], $found)));
    same(3, $r->del($x, $y, $z));
}

function transactions(Redis $r): void
{
    global $x, $y, $z;
    $replies = $r->multi()->set($x, '1')->incr($y)->hSet($z, 'a', '1')->hGetAll($z)->mget([$x, $y])->exec();
    same([true, 1, 1, ['a' => '1'], ['1', '1']], $replies);

    // An error of one command stands as false beside the replies of the others, which are applied.
    same([2, false, 2], $r->multi()->incr($x)->lPush($x, 'a')->incr($y)->exec());
    same(0, strpos($r->getLastError(), 'WRONGTYPE'));
    $r->clearLastError();
    $r->multi()->incr($x);
    same(true, $r->discard());
    same(['2', '2'], $r->mget([$x, $y]));

    $other = connected();
    $r->watch([$x, $y]);
    $other->set($y, 'theirs');
    same(false, $r->multi()->set($x, 'mine')->set($y, 'mine')->exec());
    $r->watch([$x, $y]);
    same([true, true], $r->multi()->set($x, 'mine')->set($y, 'mine')->exec());
    same(['mine', 'mine'], $r->mget([$x, $y]));

    same(3, $r->del($x, $y, $z));
    $pipeline = $r->pipeline();
    for ($n = 0; $n < 300; $n++) {
        $pipeline->incr([$x, $y, $z][$n % 3]);
    }
    same(array_map(fn ($n) => intdiv($n, 3) + 1, range(0, 299)), $pipeline->exec());
    same(3, $r->del($x, $y, $z));
}

/** Runs `$act` with a connection of its own in another process, while this one waits for what comes of it. */
function meanwhile(callable $act): void
{
    if (pcntl_fork() === 0) {
        $act(connected());
        exit(0);
    }
}

function pubSub(Redis $r): void
{
    global $x, $y;
    meanwhile(function (Redis $other) use ($x, $y) {
        // Zero, as long as nobody is subscribed.
        while ($other->publish($x, 'one') === 0);
        while ($other->publish("$y:a", 'two') === 0);
    });
    $heard = [];
    try {
        connected()->psubscribe([$x, "$y:*"], function (Redis $redis, $pattern, $channel, $message) use (&$heard) {
            $heard[$message] = [$pattern, $channel];
            // The way out: phpredis listens as long as it can read.
            if (count($heard) === 2) {
                $redis->close();
            }
        });
    } catch (RedisException $exception) {
        same(2, count($heard));
    }
    same(['one' => [$x, $x], 'two' => ["$y:*", "$y:a"]], $heard);
    pcntl_wait($status);
    same(0, $status);
    // The connection is closed, which the server hears of in a moment.
    while ($r->publish($x, 'nobody hears this') !== 0);
}

function blocking(Redis $r): void
{
    global $x, $y, $z;
    meanwhile(fn (Redis $other) => $other->rPush($z, 'a', 'b'));
    same([$z, 'a'], $r->blPop([$x, $y, $z], 30));
    same('b', $r->brpoplpush($z, $x, 30));
    same([], $r->blPop([$y, $z], 1));
    meanwhile(fn (Redis $other) => $other->zAdd($y, 1.5, 'm'));
    same([$y, 'm', '1.5'], $r->bzPopMin([$y, $z], 30));
    meanwhile(fn (Redis $other) => $other->xAdd($z, '1-1', ['a' => 'b']));
    same([$z => ['1-1' => ['a' => 'b']]], $r->xRead([$y => '$', $z => '0'], null, 30_000));
    for ($n = 0; $n < 3; $n++) {
        pcntl_wait($status);
        same(0, $status);
    }
    same(2, $r->del($x, $z));
}

function scripts(Redis $r): void
{
    global $x, $y, $z;
    same([$x, 'a'], $r->eval('return {KEYS[1], ARGV[1]}', [$x, 'a'], 1));
    same(false, $r->evalSha(str_repeat('0', 40), [$x], 1));
    same(0, strpos($r->getLastError(), 'NOSCRIPT'));
    $sha = $r->script('load', "return redis.call('INCRBY', KEYS[1], ARGV[1])");
    same([1], $r->script('exists', $sha));
    same(5, $r->evalSha($sha, [$x, '5'], 1));
    same([6, 2, 1], $r->multi()->evalSha($sha, [$x, '1'], 1)->evalSha($sha, [$y, '2'], 1)->incr($z)->exec());
    same(3, $r->del($x, $y, $z));
}

foreach (['handshake', 'types', 'transactions', 'pubSub', 'blocking', 'scripts'] as $check) {
    $check(connected());
    echo "$check RESP2\n";
}
