# redis-py, synchronous: argv is port, "standalone" or "proxy", protocol, parser.
import sys
import threading
import time
import uuid

import redis
from redis.connection import Connection, DefaultParser
from redis._parsers import _HiredisParser, _RESP2Parser, _RESP3Parser

port, place, protocol, parser = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
python_parser = _RESP3Parser if protocol == 3 else _RESP2Parser
parser_class = _HiredisParser if parser == "hiredis" else python_parser
assert parser != "hiredis" or DefaultParser is _HiredisParser, "hiredis is not installed"
pool = redis.ConnectionPool(
    connection_class=Connection,
    parser_class=parser_class,
    host="127.0.0.1",
    port=port,
    protocol=protocol,
    decode_responses=True,
    socket_timeout=20,
)
r = redis.Redis(connection_pool=pool)
tag = "{" + uuid.uuid4().hex + "}"


def k(name):
    return f"{tag}:{name}"


# Strings, expiry, numbers.
assert r.set(k("s"), "v", ex=100, nx=True) and r.set(k("s"), "w", nx=True) is None
assert 90 < r.ttl(k("s")) <= 100 and r.getset(k("s"), "x") == "v" and r.ttl(k("s")) == -1
assert r.incrbyfloat(k("f"), 1.5) == 1.5 and r.incr(k("n"), 41) == 41
assert r.mset({k("a"): 1, k("b"): "ü"}) and r.mget(k("a"), k("b"), k("c")) == ["1", "ü", None]
assert r.setbit(k("bits"), 9, 1) == 0 and r.bitcount(k("bits")) == 1
assert r.pfadd(k("p"), "a", "b") == 1 and r.pfcount(k("p")) == 2

# Hashes, lists, sets, sorted sets, geo.
assert r.hset(k("h"), mapping={"a": 1, "b": 2}) == 2
assert r.hgetall(k("h")) == {"a": "1", "b": "2"} and r.hincrby(k("h"), "a", 4) == 5
big = {f"field{n}": n for n in range(2000)}
assert r.hset(k("big"), mapping=big) == 2000
assert dict(r.hscan_iter(k("big"), count=100)) == {f: str(v) for f, v in big.items()}
assert r.rpush(k("l"), *range(10)) == 10 and r.lrange(k("l"), 2, 3) == ["2", "3"]
assert r.lmove(k("l"), k("l2"), "LEFT", "RIGHT") == "0" and r.lpos(k("l"), "9") == 8
assert r.sadd(k("t"), "x", "y", "z") == 3 and r.sinter(k("t"), k("t")) == {"x", "y", "z"}
assert r.zadd(k("z"), {"a": 1, "b": 2.5, "c": float("inf")}) == 3
assert r.zrange(k("z"), 0, -1, withscores=True)[1] in (("b", 2.5), ["b", 2.5])
assert r.zscore(k("z"), "c") == float("inf") and r.zrangebyscore(k("z"), "-inf", "(3") == ["a", "b"]
assert r.geoadd(k("g"), (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")) == 2
assert abs(r.geodist(k("g"), "Palermo", "Catania", "km") - 166.2742) < 0.001

# Streams with a group.
first = r.xadd(k("x"), {"n": 1})
assert r.xgroup_create(k("x"), "workers", "0") and r.xadd(k("x"), {"n": 2})
got = r.xreadgroup("workers", "me", {k("x"): ">"}, count=10, block=100)
entries = got[k("x")][0] if isinstance(got, dict) else got[0][1]
assert [fields["n"] for _, fields in entries] == ["1", "2"], got
assert r.xack(k("x"), "workers", first) == 1
assert r.xpending(k("x"), "workers")["pending"] == 1
assert r.xinfo_stream(k("x"))["length"] == 2

# Pipelines, transactions, optimistic locking.
with r.pipeline(transaction=False) as p:
    for n in range(500):
        p.incr(k("many"))
    assert p.execute() == list(range(1, 501))
with r.pipeline(transaction=True) as p:
    assert p.set(k("a"), 7).incr(k("a")).lpush(k("l3"), "e").execute() == [True, 8, 1]


def serves_watch():
    try:
        with r.pipeline() as p:
            p.watch(k("a"))
        return True
    except redis.ResponseError as error:
        # A proxy may say so; a server may not.
        assert place == "proxy" and "not served over a link" in str(error), error
        return False


if serves_watch():
    with r.pipeline() as p:
        p.watch(k("a"))
        r.set(k("a"), "changed")
        p.multi()
        p.set(k("a"), "lost")
        try:
            p.execute()
            raise AssertionError("a watched key changed")
        except redis.WatchError:
            pass

    def count(p):
        seen = int(p.get(k("tx")) or 0)
        p.multi()
        p.set(k("tx"), seen + 1)

    assert r.transaction(count, k("tx")) == [True] and r.get(k("tx")) == "1"

# Scripts and locks (redis-py's lock is a script).
add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
assert add(keys=[k("sum")], args=[5]) == 5 and add(keys=[k("sum")], args=[6]) == 11
lock = r.lock(k("lock"), timeout=10)
assert lock.acquire(blocking=False) and not r.lock(k("lock"), timeout=10).acquire(blocking=False)
assert lock.extend(5) and lock.owned()
lock.release()

# Blocking, fed by another connection.
feeder = threading.Timer(0.2, lambda: r.rpush(k("jobs"), "job"))
feeder.start()
assert tuple(r.blpop([k("nothing"), k("jobs")], timeout=10)) == (k("jobs"), "job")
feeder.join()
assert r.blpop([k("nothing")], timeout=1) is None

# Errors are exceptions of the right kind, and the connection goes on.
try:
    r.incr(k("h"))
    raise AssertionError("a hash is no number")
except redis.ResponseError as error:
    assert str(error).startswith("WRONGTYPE"), error
assert r.ping()
assert set(r.scan_iter(match=tag + ":z*", count=1000)) == {k("z")}

# With a parser of one's own choice redis-py takes no push messages as pub/sub.
if place == "standalone" and (protocol == 2 or parser == "hiredis"):
    sub = r.pubsub(ignore_subscribe_messages=True)
    sub.subscribe(k("news"))
    sub.psubscribe(tag + ":w*")
    deadline = time.time() + 10
    while r.publish(k("news"), "hello") < 1 or r.pubsub_numpat() < 1:
        assert time.time() < deadline, "nobody subscribed"
        sub.get_message(timeout=0.1)
    r.publish(k("weather"), "rain")
    seen = set()
    while len(seen) < 2:
        assert time.time() < deadline, f"only {seen} arrived"
        message = sub.get_message(timeout=0.1)
        if message:
            seen.add(message["data"])
    assert seen == {"hello", "rain"}
    sub.close()
    r.select(1)
    r.select(0)

assert r.delete(*[k(n) for n in ("s", "f", "h", "big", "l", "z", "x")]) == 7
print("all flows passed")
