# rq, a job queue: argv is port. Jobs succeed, fail, are retried and depend on others.
import sys

import redis
from rq import Queue, Retry, SimpleWorker
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry

connection = redis.Redis(host="127.0.0.1", port=int(sys.argv[1]))
queue = Queue("work", connection=connection)
jobs = [queue.enqueue("operator.add", n, n) for n in range(30)]
broken = queue.enqueue("operator.truediv", 1, 0)
retried = queue.enqueue("operator.truediv", 1, 0, retry=Retry(max=2))
after = queue.enqueue("operator.mul", 6, 7, depends_on=jobs[0])
assert len(queue) == 32, len(queue)
worker = SimpleWorker([queue], connection=connection)
assert worker.work(burst=True, logging_level="ERROR")
assert [job.return_value() for job in jobs] == [2 * n for n in range(30)]
assert after.return_value() == 42
assert Job.fetch(broken.id, connection=connection).is_failed
assert retried.get_status(refresh=True).value == "failed"
assert len(FinishedJobRegistry(queue=queue)) == 31, len(FinishedJobRegistry(queue=queue))
assert set(FailedJobRegistry(queue=queue).get_job_ids()) == {broken.id, retried.id}
assert len(queue) == 0
for job in jobs:
    job.delete()
assert connection.dbsize() > 0
print("all flows passed")
