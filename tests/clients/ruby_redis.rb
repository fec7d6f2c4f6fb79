# redis-rb before weft: `ruby_redis.rb PORT X Y Z`, where X, Y and Z are keys on three shards.

require "redis"

PORT, X, Y, Z = ARGV

def same(expected, actual)
  return if expected == actual

  abort "#{caller(1, 1).first}: expected #{expected.inspect}, not #{actual.inspect}"
end

def refused(pattern)
  yield
  abort "#{caller(1, 1).first}: this was to be refused with #{pattern}"
rescue Redis::CommandError => e
  abort "#{caller(1, 1).first}: #{e.message} is not #{pattern}" unless e.message.match?(pattern)
end

def connected
  Redis.new(host: "127.0.0.1", port: PORT, id: "matrix", timeout: 30)
end

def handshake(redis)
  same "PONG", redis.ping
  same "matrix", redis.client(:getname)
  same true, redis.info("server").key?("redis_version")
end

def types(redis)
  same "OK", redis.set(X, "value", ex: 100)
  same true, redis.ttl(X) > 90
  redis.set(Y, "\0\r\n\xff".b)
  same "\0\r\n\xff".b, redis.get(Y).b
  same "OK", redis.mset(X, "1", Y, "2")
  same ["1", "2", nil], redis.mget(X, Y, Z)
  same 1.5, redis.incrbyfloat(X, 0.5)
  same 2, redis.del(X, Y, Z)

  same 2, redis.hset(X, { "a" => "1", "b" => "2" })
  same({ "a" => "1", "b" => "2" }, redis.hgetall(X))
  same 6, redis.hincrby(X, "a", 5)
  same 3, redis.rpush(Y, %w[a b c])
  same "a", redis.lmove(Y, Z, "LEFT", "RIGHT")
  same [%w[b c], %w[a]], [redis.lrange(Y, 0, -1), redis.lrange(Z, 0, -1)]
  same 3, redis.del(X, Y, Z)

  redis.sadd(X, %w[a b])
  redis.sadd(Y, %w[b c])
  same %w[b], redis.sinter(X, Y)
  same 3, redis.sunionstore(Z, X, Y)
  same true, redis.sismember(Z, "c")
  same 3, redis.del(X, Y, Z)

  same 2, redis.zadd(X, [[1, "a"], [2.5, "b"]])
  same 2.5, redis.zscore(X, "b")
  same [["a", 1.0], ["b", 2.5]], redis.zrange(X, 0, -1, with_scores: true)
  same ["b", 2.5], redis.zpopmax(X)
  id = redis.xadd(Y, { "field" => "value" })
  same "OK", redis.xgroup(:create, Y, "group", "0")
  redis.xadd(Z, { "other" => "shard" }, id: "1-1")
  same({ Y => [[id, { "field" => "value" }]], Z => [["1-1", { "other" => "shard" }]] }, redis.xread([Y, Z], %w[0 0]))
  same({ Y => [[id, { "field" => "value" }]] }, redis.xreadgroup("group", "me", Y, ">"))
  same 1, redis.xack(Y, "group", id)
  same 3, redis.del(X, Y, Z)

  same 0, redis.setbit(X, 7, 1)
  same 1, redis.bitcount(X)
  same true, redis.pfadd(Y, %w[a b])
  same true, redis.pfadd(Z, %w[b c])
  same 3, redis.pfcount(Y, Z)
  same 3, redis.del(X, Y, Z)
  same 1, redis.geoadd(X, 13.361, 38.115, "Palermo")
  same ["Palermo"], redis.georadius(X, 13, 38, 100, "km")

  redis.mset(Y, "1", Z, "2")
  same [], [X, Y, Z] - redis.scan_each(match: "k*", count: 1000).to_a
  same 3, redis.del(X, Y, Z)
end

def transactions(redis)
  replies = redis.multi { |tx| [tx.set(X, "1"), tx.incr(Y), tx.hset(Z, "a", "1"), tx.hgetall(Z), tx.mget(X, Y)] }
  same ["OK", 1, 1, { "a" => "1" }, %w[1 1]], replies

  # An error of one command is raised, and the others are applied all the same.
  refused(/^WRONGTYPE/) { redis.multi { |tx| [tx.incr(X), tx.lpush(X, "a"), tx.incr(Y)] } }
  # What cannot be queued aborts everything.
  refused(/wrong number of arguments/) { redis.multi { |tx| [tx.incr(X), tx.call([:get]), tx.incr(Y)] } }
  same %w[2 2], redis.mget(X, Y)

  other = connected
  kept = redis.watch(X, Y) do |watching|
    other.set(Y, "theirs")
    watching.multi { |tx| [tx.set(X, "mine"), tx.set(Y, "mine")] }
  end
  same nil, kept
  kept = redis.watch(X, Y) { |watching| watching.multi { |tx| [tx.set(X, "mine"), tx.set(Y, "mine")] } }
  same %w[OK OK], kept
  same %w[mine mine], redis.mget(X, Y)

  same 3, redis.del(X, Y, Z)
  counts = redis.pipelined { |pipeline| 300.times { |n| pipeline.incr([X, Y, Z][n % 3]) } }
  same((0...300).map { |n| n / 3 + 1 }, counts)
  same 3, redis.del(X, Y, Z)
end

def pub_sub(redis)
  heard = []
  subscriber = connected
  subscribed = Queue.new
  thread = Thread.new do
    subscriber.psubscribe(X, "#{Y}:*") do |on|
      on.psubscribe { |_, count| subscribed << count }
      on.pmessage do |_, channel, message|
        heard << [channel, message]
        subscriber.punsubscribe if heard.size == 3
      end
    end
  end
  same [1, 2], [subscribed.pop, subscribed.pop]
  same 1, redis.publish(X, "one")
  same 1, redis.publish("#{Y}:a", "two")
  same [1, 1], redis.multi { |tx| [tx.publish(X, "three"), tx.incr(Z)] }
  thread.join
  same [[X, "one"], [X, "three"], ["#{Y}:a", "two"]].sort, heard.sort
  same "PONG", subscriber.ping
  same 1, redis.del(Z)
end

def blocking(redis)
  waiter = connected
  waiting = Thread.new { waiter.blpop(X, Y, Z, timeout: 20) }
  redis.rpush(Z, %w[a b])
  same [Z, "a"], waiting.value
  same "b", waiter.blmove(Z, X, "LEFT", "LEFT", timeout: 20)
  same nil, waiter.blpop(Y, Z, timeout: 0.05)
  waiting = Thread.new { waiter.bzpopmin(Y, Z, timeout: 20) }
  redis.zadd(Y, 1.5, "m")
  same [Y, "m", 1.5], waiting.value
  waiting = Thread.new { waiter.xread([Y, Z], ["$", "0"], block: 20_000) }
  redis.xadd(Z, { "a" => "b" }, id: "1-1")
  same({ Z => [["1-1", { "a" => "b" }]] }, waiting.value)
  same 2, redis.del(X, Z)
end

def scripts(redis)
  same [X, "a"], redis.eval("return {KEYS[1], ARGV[1]}", [X], ["a"])
  refused(/^NOSCRIPT/) { redis.evalsha("0" * 40, [X]) }
  sha = redis.script(:load, "return redis.call('INCRBY', KEYS[1], ARGV[1])")
  same true, redis.script(:exists, sha)
  same 5, redis.evalsha(sha, [X], [5])
  same [6, 2, 1], redis.multi { |tx| [tx.evalsha(sha, [X], [1]), tx.evalsha(sha, [Y], [2]), tx.incr(Z)] }
  same 3, redis.del(X, Y, Z)
end

%i[handshake types transactions pub_sub blocking scripts].each do |check|
  send(check, connected)
  puts "#{check} RESP2"
end
