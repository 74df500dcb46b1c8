//! The tool against a real etcd, with the tests in the part of the nodes.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use cairn_protocol::topology::{
    Decision, NodeRegistration, PlanProgressRecord, PlanProgressWriter, PlanStage, PlanState,
    TopologyStore, Verdict, WantedState,
};
use serde_json::json;
use support::etcd::Etcd;
use support::{Admin, LIMIT, answer_resp, node_record, proxy_record, wait_until};

/// A cluster of two groups on two stand-in nodes that are up.
struct Cluster {
    _etcd: Etcd,
    admin: Admin,
    store: TopologyStore,
    nodes: Vec<NodeRegistration>,
}

async fn cluster(slot_stats: Option<[u64; 3]>) -> Cluster {
    let etcd = Etcd::start();
    let admin = Admin { etcd: etcd.url() };
    let done = admin.json("init --group 1=n1 --group 2=n2", 0);
    assert_eq!(done["done"].as_array().unwrap().len(), 6, "{done}");
    let store = admin.store().await;
    let mut nodes = Vec::new();
    for (id, group) in [("n1", 1), ("n2", 2)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || answer_resp(listener, slot_stats));
        let registration = store.register_node(node_record(id, port, 1));
        tokio::time::timeout(LIMIT, registration.wait_live())
            .await
            .unwrap()
            .unwrap();
        store.mark_bootstrapped(group, 1).await.unwrap();
        nodes.push(registration);
    }
    Cluster {
        _etcd: etcd,
        admin,
        store,
        nodes,
    }
}

fn progress(state: PlanState, stage: PlanStage, bytes_done: u64) -> PlanProgressRecord {
    PlanProgressRecord {
        plan: 0,
        state,
        stage,
        bytes_done,
        bytes_total: 1000,
        pause_ms: (state == PlanState::Done).then_some(42),
        message: "copying".into(),
        updated_at_ms: 0,
    }
}

/// Ends a plan as a source's leader would.
async fn commit(store: &TopologyStore, writer: &mut PlanProgressWriter, plan: u64) {
    let decided = store
        .decide(plan, Verdict::Commit { slot_epoch: 2 }, "n1", "ready")
        .await
        .unwrap();
    assert_eq!(decided.decision, Decision::Commit);
    writer
        .write(&progress(PlanState::Done, PlanStage::Switch, 1000))
        .await
        .unwrap();
}

/// The tool runs elsewhere while the registrations of the test's runtime live on.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_status_and_lists_tell_the_state_of_a_cluster() {
    let mut cluster = cluster(None).await;
    let admin = Admin {
        etcd: cluster.admin.etcd.clone(),
    };
    let proxy = cluster.store.register_proxy(proxy_record("p1", 6390));
    tokio::time::timeout(LIMIT, proxy.wait_live())
        .await
        .unwrap()
        .unwrap();

    let again = admin.json("init --group 1=n1 --group 2=n2", 0);
    assert_eq!(again["done"], json!([]));
    admin.refused("init --group 1=n2", "group 1 exists on n1, not on n2");
    let status = admin.json("status", 0);
    assert_eq!(status["healthy"], true);
    assert_eq!(
        (&status["epoch"], &status["slots_assigned"]),
        (&json!(1), &json!(16384))
    );
    assert_eq!(status["proxies"][0]["address"], "127.0.0.1:6390");
    assert_eq!(
        (&status["problems"], &status["warnings"]),
        (&json!([]), &json!([]))
    );
    let slots = admin.json("slots", 0);
    assert_eq!(slots["ranges"][1]["lo"], 8192);
    assert_eq!(slots["ranges"][1]["leader"], "n2");
    let (code, text, _) = admin.run("status");
    assert_eq!(code, 0);
    assert!(
        text.starts_with("cluster `c1`: healthy, 16384 of 16384 slots"),
        "{text}"
    );

    let added = admin.json("node add n3", 0);
    assert_eq!(added["state"], "admitted");
    admin.json("group create --id 3 --nodes n3", 0);
    admin.refused("group create --id 4 --nodes n9", "node `n9` is not known");
    admin.refused("node remove n3", "holds group(s) 3");
    admin.refused("node remove n1", "holds group(s) 1 with 8192 slots");
    admin.json("group remove 3", 0);
    admin.json("node remove n3", 0);
    let nodes = admin.json("node list", 0);
    assert_eq!(nodes.as_array().unwrap().len(), 2);
    assert_eq!(nodes[0]["state"], "up");
    assert_eq!(nodes[0]["slots"], 8192);
    let groups = admin.json("group list", 0);
    assert_eq!(groups[1]["slots"], "8192-16383");

    let gone = cluster.nodes.remove(0);
    gone.deregister().await;
    let status = admin.json("status", 3);
    assert_eq!(status["healthy"], false);
    let problem = status["problems"][0].as_str().unwrap();
    assert!(problem.contains("node `n1` is down"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_a_file_are_created_and_a_bad_file_is_named() {
    let etcd = Etcd::start();
    let admin = Admin { etcd: etcd.url() };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("groups.json");
    let line = format!("init --groups-file {}", file.display());
    admin.refused(&line, "groups.json");
    std::fs::write(&file, "[{\"id\": 1}]").unwrap();
    admin.refused(&line, "is no list like");
    std::fs::write(
        &file,
        r#"[{"id": 7, "nodes": ["a"]}, {"id": 9, "nodes": ["b"]}]"#,
    )
    .unwrap();
    admin.json(&line, 0);
    let slots = admin.json("slots", 0);
    assert_eq!(
        (&slots["ranges"][0]["group"], &slots["ranges"][1]["group"]),
        (&json!(7), &json!(9))
    );
}

#[test]
fn without_a_cluster_or_etcd_the_tool_says_what_to_do() {
    let mut etcd = Etcd::start();
    let admin = Admin { etcd: etcd.url() };
    admin.refused("status", "create it with `cluster-admin --cluster c1 init`");
    etcd.kill();
    admin.refused("status", "is it running? --etcd says where");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_that_cannot_work_are_refused() {
    let cluster = cluster(None).await;
    let admin = &cluster.admin;
    admin.refused(
        "reshard --from 1 --to 2",
        "needs --from GROUP --to GROUP --slots RANGES",
    );
    admin.refused(
        "reshard --from 1 --to 1 --slots 0 --yes",
        "source and destination at once",
    );
    admin.refused(
        "reshard --from 1 --to 5 --slots 0 --yes",
        "there is no group 5",
    );
    admin.refused(
        "reshard --from 1 --to 2 --slots 8000-9000 --yes",
        "slots 8192-9000 are not owned by group 1",
    );
    admin.refused(
        "reshard --from 1 --to 2 --slots 0-9",
        "nobody is there to ask: add --yes",
    );
    admin.refused("reshard status 1", "there is no plan 1");
    admin.refused("reshard abort 1", "there is no plan 1");
    let (code, _, err) = admin.run("reshard --from 1 --to 2 --slots 9-1 --yes");
    assert_eq!(code, 2, "{err}");
    let plan = admin.json("reshard --from 1 --to 2 --slots 0-99 --yes --detach", 0);
    assert_eq!(plan["plan"], 1);
    admin.refused(
        "reshard --from 1 --to 2 --slots 50-150 --yes",
        "`reshard abort 1`",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_tells_sizes_and_changes_nothing() {
    let cluster = cluster(Some([10, 2_000_000, 50_000_000])).await;
    let line = "reshard --from 1 --to 2 --slots 0-99,200 --max-rate 1MB --dry-run";
    let estimate = cluster.admin.json(line, 0);
    assert_eq!(
        (&estimate["keys"], &estimate["bytes"]),
        (&json!(20), &json!(4_000_000))
    );
    assert_eq!(estimate["fits"], true);
    assert!(
        (estimate["eta_s"].as_f64().unwrap() - 3.8147).abs() < 0.01,
        "{estimate}"
    );
    assert!(estimate["expected_pause_ms"].as_u64().unwrap() >= 10);
    let (_, text, _) = cluster.admin.run(line);
    assert!(text.contains("3.8 MB in 20 keys"), "{text}");
    assert_eq!(cluster.admin.json("reshard status", 0), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_lives_with_nodes_that_tell_no_sizes() {
    let cluster = cluster(None).await;
    let estimate = cluster
        .admin
        .json("reshard --from 1 --to 2 --slots 0-99 --dry-run", 0);
    assert_eq!(estimate["bytes"], json!(null));
    assert_eq!(estimate["destination_disk_free_bytes"], json!(1u64 << 40));
    assert!(
        estimate["notes"][0]
            .as_str()
            .unwrap()
            .contains("sizes are not known"),
        "{estimate}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_without_room_is_refused() {
    let cluster = cluster(Some([10, 2_000_000, 3_000_000])).await;
    cluster.admin.refused(
        "reshard --from 1 --to 2 --slots 0-99 --yes",
        "make room, or move fewer slots",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followed_move_ends_with_its_measured_pause() {
    let cluster = cluster(None).await;
    let mut tool = cluster
        .admin
        .command("reshard --from 1 --to 2 --slots 0-8191 --max-rate 100MB --max-pause 200ms --yes");
    let tool = elsewhere(move || tool.output().unwrap());
    let source = async {
        let mut watch = cluster.store.watch(Default::default());
        watch.wait_for(|t| t.plans.contains_key(&1)).await;
        let plan = watch.load().plans[&1].value.clone();
        assert_eq!(plan.limits.max_rate_bytes_per_sec, Some(100 << 20));
        assert_eq!(plan.limits.max_pause_ms, 200);
        let mut writer = cluster.store.progress_writer(1);
        writer
            .write(&progress(PlanState::Running, PlanStage::Full, 10))
            .await
            .unwrap();
        writer
            .write(&progress(PlanState::Running, PlanStage::Increment, 1000))
            .await
            .unwrap();
        commit(&cluster.store, &mut writer, 1).await;
    };
    let (output, ()) = tokio::join!(tool, source);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("8192 slots from group 1 to group 2"),
        "{text}"
    );
    assert!(
        text.trim_end().ends_with("these slots paused for 42 ms"),
        "{text}"
    );
    let plan = cluster.admin.json("reshard status 1", 0);
    assert_eq!(
        (&plan["state"], &plan["pause_ms"]),
        (&json!("done"), &json!(42))
    );
    assert_eq!(plan["decision"], "commit");
    assert_eq!(cluster.admin.json("slots", 0)["ranges"][0]["group"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_tool_changes_nothing_and_following_can_begin_again() {
    let cluster = cluster(None).await;
    let mut tool = cluster
        .admin
        .command("reshard --from 1 --to 2 --slots 0-9 --yes --json")
        .spawn()
        .unwrap();
    let mut watch = cluster.store.watch(Default::default());
    tokio::time::timeout(LIMIT, watch.wait_for(|t| t.plans.contains_key(&1)))
        .await
        .unwrap();
    let mut writer = cluster.store.progress_writer(1);
    writer
        .write(&progress(PlanState::Running, PlanStage::Full, 10))
        .await
        .unwrap();
    tool.kill().unwrap();
    tool.wait().unwrap();
    let plan = cluster.admin.json("reshard status 1", 0);
    assert_eq!(
        (&plan["state"], &plan["wanted"], &plan["bytes_done"]),
        (&json!("running"), &json!("run"), &json!(10))
    );

    let mut tool = cluster.admin.command("reshard status 1 --follow --json");
    let tool = elsewhere(move || tool.output().unwrap());
    let ((), output) = tokio::join!(commit(&cluster.store, &mut writer, 1), tool);
    assert_eq!(output.status.code(), Some(0));
    let last: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&last["state"], &last["pause_ms"]),
        (&json!("done"), &json!(42))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_paused_resumed_and_aborted() {
    let cluster = cluster(None).await;
    let admin = &cluster.admin;
    admin.json("reshard --from 1 --to 2 --slots 0-9 --yes --detach", 0);
    for (verb, wanted) in [
        ("pause", WantedState::Pause),
        ("resume", WantedState::Run),
        ("abort", WantedState::Abort),
    ] {
        admin.json(&format!("reshard {verb} 1"), 0);
        assert_eq!(cluster.store.list().await.unwrap().plans[&1].wanted, wanted);
    }
    admin.refused("reshard resume 1", "was told to abort");
    cluster
        .store
        .decide(1, Verdict::Abort, "n1", "operator")
        .await
        .unwrap();
    let mut writer = cluster.store.progress_writer(1);
    writer
        .write(&progress(PlanState::Aborted, PlanStage::Full, 10))
        .await
        .unwrap();
    let ended = admin.json("reshard status 1 --follow", 4);
    assert_eq!(
        (&ended["state"], &ended["decision"]),
        (&json!("aborted"), &json!("abort"))
    );
    admin.refused("reshard pause 1", "is aborted already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_follower_leaves_the_move_alone() {
    let cluster = cluster(None).await;
    let mut command = cluster
        .admin
        .command("reshard --from 1 --to 2 --slots 0-9 --yes");
    let mut tool = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut watch = cluster.store.watch(Default::default());
    tokio::time::timeout(LIMIT, watch.wait_for(|t| t.plans.contains_key(&1)))
        .await
        .unwrap();
    let mut writer = cluster.store.progress_writer(1);
    writer
        .write(&progress(PlanState::Running, PlanStage::Full, 10))
        .await
        .unwrap();
    // Once it shows progress it listens for the signal.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(tool.stdout.take().unwrap()));
    let shown = lines.find(|line| line.as_ref().unwrap().contains("running full: copying"));
    assert!(shown.is_some());
    // SAFETY: kill(2) of a child that was not reaped.
    unsafe { libc::kill(tool.id() as i32, libc::SIGINT) };
    assert!(lines.any(|line| line.unwrap().contains("The move goes on")));
    assert_eq!(tool.wait().unwrap().code(), Some(130));
    assert_eq!(
        cluster.store.list().await.unwrap().plans[&1].wanted,
        WantedState::Run
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_add_waits_for_a_node_to_come_up() {
    let cluster = cluster(None).await;
    let admin = Admin {
        etcd: cluster.admin.etcd.clone(),
    };
    admin.refused("node add n5 --wait 1", "did not come up within 1 s");
    let waiting = elsewhere(move || admin.json("node add n5 --wait 30", 0));
    // Whether the tool looks before the node is there, after it, or in between.
    let registration = cluster.store.register_node(node_record("n5", 7005, 7105));
    let (up, live) = tokio::join!(
        waiting,
        tokio::time::timeout(Duration::from_secs(30), registration.wait_live())
    );
    live.unwrap().unwrap();
    assert_eq!(
        (&up["state"], &up["address"]),
        (&json!("up"), &json!("127.0.0.1:7005"))
    );
    wait_until("n5 in the list", || {
        let nodes = cluster.admin.json("node list", 0);
        nodes
            .as_array()
            .unwrap()
            .iter()
            .any(|n| n["id"] == "n5" && n["state"] == "up")
    });
}
