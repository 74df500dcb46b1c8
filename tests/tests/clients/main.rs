//! Other people's clients in short real flows: redis-py (synchronous with its own
//! parsers and hiredis's, and asyncio), redis-rs, and rq, a job queue. Against a
//! standalone server and through the proxy; cluster-aware clients are in
//! `cluster_clients`.

use std::sync::LazyLock;

use cairn_tests::cluster::Cluster;
use cairn_tests::python;
use cairn_tests::server::Server;
use redis::TypedCommands;

/// One of each for all tests here: they use keys of their own.
static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&[]));
static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::start(3, 2));

const FLOW: &str = include_str!("flow.py");
const ASYNCIO: &str = include_str!("asyncio_flow.py");
const RQ: &str = include_str!("rq_flow.py");

fn redis_py(port: u16, place: &str) {
    let port = port.to_string();
    for protocol in ["2", "3"] {
        for parser in ["python", "hiredis"] {
            python::flow("redis-py", FLOW, &[&port, place, protocol, parser]);
        }
        python::flow("redis-py asyncio", ASYNCIO, &[&port, protocol]);
    }
}

#[test]
fn redis_py_works_against_a_standalone_server() {
    redis_py(SERVER.port(), "standalone");
}

#[test]
fn redis_py_works_through_the_proxy() {
    redis_py(CLUSTER.proxy_port, "proxy");
}

/// Standalone only: rq's transactions take keys of several slots, which no cluster has.
#[test]
fn the_job_queue_rq_works_against_a_standalone_server() {
    let server = Server::start(&[]);
    python::flow("rq", RQ, &[&server.port().to_string()]);
}

#[test]
fn redis_rs_works_against_a_standalone_server() {
    redis_rs(SERVER.port());
}

#[test]
fn redis_rs_works_through_the_proxy() {
    redis_rs(CLUSTER.proxy_port);
}

fn redis_rs(port: u16) {
    for protocol in ["", "?protocol=resp3"] {
        let url = format!("redis://127.0.0.1:{port}/{protocol}");
        let client = redis::Client::open(url).expect("the url parses");
        let mut connection = client.get_connection().expect("a connection");
        let key = |name: &str| format!("{{rs{}}}:{name}", protocol.len());
        plain_commands(&mut connection, key);
        transactions(&mut connection, key);
    }
}

fn plain_commands(connection: &mut redis::Connection, key: impl Fn(&str) -> String) {
    connection.set(key("s"), "v").expect("SET");
    assert_eq!(connection.get(key("s")).expect("GET").as_deref(), Some("v"));
    assert_eq!(connection.incr(key("n"), 5).expect("INCR"), 5);
    let fields = [("a", 1), ("b", 2)];
    connection.hset_multiple(key("h"), &fields).expect("HMSET");
    let all = connection.hgetall(key("h")).expect("HGETALL");
    assert_eq!(all.len(), 2);
    assert_eq!(all["b"], "2");
    assert_eq!(connection.rpush(key("l"), &["x", "y"]).expect("RPUSH"), 2);
    assert_eq!(
        connection.lrange(key("l"), 0, -1).expect("LRANGE"),
        ["x", "y"]
    );
    assert_eq!(connection.sadd(key("t"), &["x", "y"]).expect("SADD"), 2);
    assert_eq!(connection.smembers(key("t")).expect("SMEMBERS").len(), 2);
    assert_eq!(connection.zadd(key("z"), "m", 1.5).expect("ZADD"), 1);
    let score = connection.zscore(key("z"), "m").expect("ZSCORE");
    assert_eq!(score, Some(1.5));
    assert_eq!(connection.del(key("s")).expect("DEL"), 1);
}

fn transactions(connection: &mut redis::Connection, key: impl Fn(&str) -> String) {
    let mut pipe = redis::pipe();
    pipe.atomic();
    pipe.incr(key("c"), 1).incr(key("c"), 2);
    let counted: (i64, i64) = pipe.query(connection).expect("MULTI and EXEC");
    assert_eq!(counted, (1, 3));
    let mut many = redis::pipe();
    for _ in 0..300 {
        many.incr(key("many"), 1);
    }
    let counts: Vec<i64> = many.query(connection).expect("a pipeline");
    assert_eq!(counts, (1..=300).collect::<Vec<i64>>());
    let sum: i64 = redis::cmd("EVAL")
        .arg("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        .arg(1)
        .arg(key("sum"))
        .arg(7)
        .query(connection)
        .expect("EVAL");
    assert_eq!(sum, 7);
    let error = redis::cmd("INCR")
        .arg(key("h"))
        .query::<i64>(connection)
        .expect_err("a hash is no number");
    assert_eq!(error.code(), Some("WRONGTYPE"));
}
