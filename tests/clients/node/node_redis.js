// node-redis before weft, in RESP2 and RESP3: `node_redis.js PORT X Y Z`, where X, Y and Z are keys on three shards.

import assert from "node:assert/strict";
import { createClient, createClientPool, defineScript, MultiErrorReply, WatchError } from "redis";

const [port, x, y, z] = process.argv.slice(2);

const move = defineScript({
  SCRIPT: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
  NUMBER_OF_KEYS: 1,
  parseCommand(parser, key, by) {
    parser.pushKey(key);
    parser.push(by.toString());
  },
  transformReply: (reply) => reply,
});

// node-redis leaves what is read from streams as it came in RESP3, and says so by this word.
const streams = { unstableResp3: true };

async function connected(RESP, name) {
  const client = createClient({ socket: { host: "127.0.0.1", port: Number(port) }, RESP, name, scripts: { move }, ...streams });
  client.on("error", (error) => assert.fail(error));
  return client.connect();
}

async function handshake(r) {
  assert.equal(await r.ping(), "PONG");
  assert.equal(await r.clientGetName(), "matrix");
  assert.match(await r.clientInfo().then((info) => info.libName), /node-redis/);
  assert.match(await r.info("server"), /redis_version:\d/);
}

async function types(r) {
  assert.equal(await r.set(x, "value", { expiration: { type: "EX", value: 100 } }), "OK");
  assert.ok((await r.ttl(x)) > 90);
  const bytes = Buffer.from([0, 13, 10, 255]);
  await r.set(y, bytes);
  const raw = await r.sendCommand(["GETRANGE", y, "0", "2"]);
  assert.equal(raw, "\0\r\n");
  assert.equal(await r.mSet({ [x]: "1", [y]: "2" }), "OK");
  assert.deepEqual(await r.mGet([x, y, z]), ["1", "2", null]);
  assert.equal(Number(await r.incrByFloat(x, 0.5)), 1.5);
  assert.equal(await r.del([x, y, z]), 2);

  assert.equal(await r.hSet(x, { a: "1", b: "2" }), 2);
  assert.deepEqual({ ...(await r.hGetAll(x)) }, { a: "1", b: "2" });
  assert.equal(await r.hIncrBy(x, "a", 5), 6);
  assert.equal(await r.rPush(y, ["a", "b", "c"]), 3);
  assert.equal(await r.lMove(y, z, "LEFT", "RIGHT"), "a");
  assert.deepEqual([await r.lRange(y, 0, -1), await r.lRange(z, 0, -1)], [["b", "c"], ["a"]]);
  assert.equal(await r.del([x, y, z]), 3);

  await r.sAdd(x, ["a", "b"]);
  await r.sAdd(y, ["b", "c"]);
  assert.deepEqual(await r.sInter([x, y]), ["b"]);
  assert.equal(await r.sUnionStore(z, [x, y]), 3);
  assert.equal(await r.sIsMember(z, "c"), 1);
  assert.equal(await r.del([x, y, z]), 3);

  assert.equal(await r.zAdd(x, [{ value: "a", score: 1 }, { value: "b", score: 2.5 }]), 2);
  assert.equal(await r.zScore(x, "b"), 2.5);
  assert.deepEqual(await r.zRangeWithScores(x, 0, -1), [{ value: "a", score: 1 }, { value: "b", score: 2.5 }]);
  assert.deepEqual(await r.zPopMax(x), { value: "b", score: 2.5 });

  const id = await r.xAdd(y, "*", { field: "value" });
  assert.equal(await r.xGroupCreate(y, "group", "0"), "OK");
  await r.xAdd(z, "1-1", { other: "shard" });
  const read = await r.xRead([{ key: y, id: "0" }, { key: z, id: "0" }]);
  assert.deepEqual(plain(messages(read)), { [y]: [[id, { field: "value" }]], [z]: [["1-1", { other: "shard" }]] });
  const [[, [[first]]]] = Object.entries(messages(await r.xReadGroup("group", "me", { key: y, id: ">" })));
  assert.equal(first, id);
  assert.equal(await r.xAck(y, "group", id), 1);
  assert.equal(await r.del([x, y, z]), 3);

  assert.equal(await r.setBit(x, 7, 1), 0);
  assert.equal(await r.bitCount(x), 1);
  assert.equal(await r.pfAdd(y, ["a", "b"]), 1);
  assert.equal(await r.pfAdd(z, ["b", "c"]), 1);
  assert.equal(await r.pfCount([y, z]), 3);
  assert.equal(await r.del([x, y, z]), 3);
  assert.equal(await r.geoAdd(x, { longitude: 13.361, latitude: 38.115, member: "Palermo" }), 1);
  assert.deepEqual(await r.geoSearch(x, { longitude: 13, latitude: 38 }, { radius: 100, unit: "km" }), ["Palermo"]);

  await r.mSet({ [y]: "1", [z]: "2" });
  const found = [];
  for await (const keys of r.scanIterator({ MATCH: "k*", COUNT: 1000 })) found.push(...keys);
  assert.deepEqual([x, y, z].filter((key) => !found.includes(key)), []);
  assert.equal(await r.del([x, y, z]), 3);
}

/** What was read from streams, by stream. */
function messages(streams) {
  if (Array.isArray(streams)) {
    return Object.fromEntries(streams.map(({ name, messages }) => [name, messages.map(({ id, message }) => [id, message])]));
  }
  const fields = (flat) => Object.fromEntries(flat.flatMap((name, n) => (n % 2 ? [] : [[name, flat[n + 1]]])));
  const entries = (raw) => raw.map(([id, flat]) => [id, fields(flat)]);
  return Object.fromEntries(Object.entries(streams).map(([name, raw]) => [name, entries(raw)]));
}

/** Without the prototypes that deepEqual looks at. */
function plain(value) {
  return JSON.parse(JSON.stringify(value));
}

async function transactions(r, RESP) {
  const replies = await r.multi().set(x, "1").incr(y).hSet(z, { a: "1" }).hGetAll(z).mGet([x, y]).exec();
  assert.deepEqual(plain(replies), ["OK", 1, 1, { a: "1" }, ["1", "1"]]);

  // An error of one command is thrown, and the others are applied all the same.
  await assert.rejects(r.multi().incr(x).lPush(x, "a").incr(y).exec(), (error) => {
    assert.ok(error instanceof MultiErrorReply);
    assert.deepEqual([error.errorIndexes, error.replies[0], error.replies[2]], [[1], 2, 2]);
    assert.match(error.replies[1].message, /^WRONGTYPE/);
    return true;
  });
  // What cannot be queued aborts everything.
  await assert.rejects(r.multi().incr(x).addCommand(["GET"]).incr(y).exec());
  assert.deepEqual(await r.mGet([x, y]), ["2", "2"]);

  const other = await connected(RESP, "other");
  await r.watch([x, y]);
  await other.set(y, "theirs");
  await assert.rejects(r.multi().set(x, "mine").set(y, "mine").exec(), WatchError);
  await r.watch([x, y]);
  assert.deepEqual(await r.multi().set(x, "mine").set(y, "mine").exec(), ["OK", "OK"]);
  assert.deepEqual(await r.mGet([x, y]), ["mine", "mine"]);
  other.destroy();

  // Commands of one tick are a pipeline; so is a multi without a transaction.
  assert.equal(await r.del([x, y, z]), 3);
  const all = await Promise.all(Array.from({ length: 300 }, (_, n) => r.incr([x, y, z][n % 3])));
  assert.deepEqual(all, Array.from({ length: 300 }, (_, n) => Math.floor(n / 3) + 1));
  assert.deepEqual(await r.multi().get(x).get(y).get(z).execAsPipeline(), ["100", "100", "100"]);

  const pool = createClientPool({ socket: { host: "127.0.0.1", port: Number(port) }, RESP }, { minimum: 1, maximum: 3 });
  await pool.connect();
  await Promise.all(Array.from({ length: 20 }, () => pool.multi().incr(x).incr(y).exec()));
  assert.deepEqual(await pool.mGet([x, y]), ["120", "120"]);
  pool.destroy();
  assert.equal(await r.del([x, y, z]), 3);
}

async function pubSub(r, RESP) {
  const heard = [];
  const subscriber = await connected(RESP, "subscriber");
  const all = new Promise((resolve) => {
    const hear = (message, channel) => heard.push([channel, message]) === 3 && resolve();
    subscriber.subscribe(x, hear).then(() => subscriber.pSubscribe(`${y}:*`, hear)).then(() => r.publish(x, "one"))
      .then((count) => assert.equal(count, 1)).then(() => r.publish(`${y}:a`, "two"))
      .then(() => r.multi().publish(x, "three").incr(z).exec());
  });
  await all;
  assert.deepEqual(heard.sort(), [[x, "one"], [x, "three"], [`${y}:a`, "two"]].sort());
  assert.deepEqual(plain(await r.pubSubNumSub([x])), { [x]: 1 });
  await subscriber.unsubscribe(x);
  await subscriber.pUnsubscribe();
  assert.equal(String(await subscriber.ping()), "PONG");
  subscriber.destroy();
  assert.equal(await r.del(z), 1);
}

async function blocking(r, RESP) {
  const waiter = await connected(RESP, "waiter");
  const waiting = waiter.blPop([x, y, z], 30);
  await r.rPush(z, ["a", "b"]);
  assert.deepEqual(plain(await waiting), { key: z, element: "a" });
  assert.equal(await waiter.blMove(z, x, "LEFT", "LEFT", 30), "b");
  assert.equal(await waiter.blPop([y, z], 0.05), null);
  const lowest = waiter.bzPopMin([y, z], 30);
  await r.zAdd(y, { value: "m", score: 1.5 });
  assert.deepEqual(plain(await lowest), { key: y, value: "m", score: 1.5 });
  const entries = waiter.xRead([{ key: y, id: "$" }, { key: z, id: "0" }], { BLOCK: 30_000 });
  await r.xAdd(z, "1-1", { a: "b" });
  assert.deepEqual(plain(messages(await entries)), { [z]: [["1-1", { a: "b" }]] });
  waiter.destroy();
  assert.equal(await r.del([x, z]), 2);
}

async function scripts(r) {
  assert.deepEqual(await r.eval("return {KEYS[1], ARGV[1]}", { keys: [x], arguments: ["a"] }), [x, "a"]);
  await assert.rejects(r.evalSha("0".repeat(40), { keys: [x] }), /NOSCRIPT/);
  assert.equal(await r.move(x, 5), 5);
  const sha = await r.scriptLoad("return redis.call('GET', KEYS[1])");
  assert.deepEqual(await r.scriptExists([sha]), [1]);
  assert.equal(await r.evalSha(sha, { keys: [x] }), "5");
  assert.deepEqual(await r.multi().move(x, 1).move(y, 2).incr(z).exec(), [6, 2, 1]);
  assert.equal(await r.del([x, y, z]), 3);
}

for (const RESP of [2, 3]) {
  const r = await connected(RESP, "matrix");
  for (const check of [handshake, types, transactions, pubSub, blocking, scripts]) {
    await check(r, RESP);
    console.log(check.name, `RESP${RESP}`);
  }
  await r.close();
}
// The pool's timers would keep it alive for seconds.
process.exit();
