# redis-py, asyncio: argv is port and protocol.
import asyncio
import sys
import uuid

import redis.asyncio as redis

tag = "{" + uuid.uuid4().hex + "}"


async def consume(r, queue, seen):
    while True:
        _, item = await r.blpop([queue], timeout=20)
        if item == "end":
            return
        seen.append(int(item))


async def main():
    r = redis.Redis(
        host="127.0.0.1", port=int(sys.argv[1]), protocol=int(sys.argv[2]), decode_responses=True
    )
    queue, counter = f"{tag}:queue", f"{tag}:counter"
    seen = []
    consumers = [asyncio.create_task(consume(r, queue, seen)) for _ in range(5)]
    for start in range(0, 200, 20):
        await asyncio.gather(*(r.rpush(queue, n) for n in range(start, start + 20)))
    await r.rpush(queue, *["end"] * 5)
    await asyncio.wait_for(asyncio.gather(*consumers), 30)
    assert sorted(seen) == list(range(200)), seen

    await asyncio.gather(*(r.incr(counter) for _ in range(100)))
    assert await r.get(counter) == "100"
    async with r.pipeline(transaction=True) as p:
        assert await p.hset(f"{tag}:h", mapping={"a": 1}).hgetall(f"{tag}:h").execute() == [
            1,
            {"a": "1"},
        ]
    async with r.pipeline() as p:
        try:
            await p.watch(counter)
            await r.incr(counter)
            p.multi()
            p.set(counter, "lost")
            await p.execute()
            raise AssertionError("a watched key changed")
        except redis.WatchError:
            pass
        except redis.ResponseError as error:
            # A proxy may say so.
            assert "not served over a link" in str(error), error
    await r.xadd(f"{tag}:x", {"f": "v"})
    assert len(await r.xrange(f"{tag}:x")) == 1
    assert [key async for key in r.scan_iter(match=f"{tag}:c*", count=1000)] == [counter]
    await r.aclose()


asyncio.run(main())
print("all flows passed")
