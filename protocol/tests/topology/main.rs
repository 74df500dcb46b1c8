//! The topology store against a real etcd: transactions, the watch through
//! kill -9 and compaction, leases.

mod etcd;

use std::time::Duration;

use cairn_protocol::topology::{
    CLUSTER_VERSION, Decision, FIRST_INCARNATION, LeaderRecord, MemberRecord, NewCluster, NewPlan,
    NodeLoad, NodeRecord, PlanLimits, PlanProgressRecord, PlanStage, PlanState, RegistrationState,
    StoreConfig, StoreError, Topology, TopologyStore, TopologyWatch, UsersRecord, Verdict,
    WantedState, load_cached, save_cached,
};
use etcd::Etcd;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);

async fn store_at(etcd: &Etcd) -> TopologyStore {
    let mut config = StoreConfig::new("c1", &etcd.url());
    config.lease_ttl = Duration::from_secs(2);
    config.call_timeout = Duration::from_secs(3);
    TopologyStore::connect(config).await.unwrap()
}

/// An etcd with a cluster of two groups.
async fn cluster() -> (Etcd, TopologyStore) {
    let etcd = Etcd::start();
    let store = store_at(&etcd).await;
    store.init(&two_groups()).await.unwrap();
    (etcd, store)
}

fn two_groups() -> NewCluster {
    NewCluster {
        id: "ab".repeat(16),
        groups: vec![(1, vec!["n1".into()]), (2, vec!["n2".into()])],
    }
}

fn node(id: &str, disk: &str) -> NodeRecord {
    NodeRecord {
        id: id.into(),
        data_dir_id: disk.into(),
        host: "127.0.0.1".into(),
        port: 7001,
        peer_port: 7101,
        zone: String::new(),
        version: "0.1.0".into(),
        max_cluster_version: 1,
        started_at_ms: 1,
        load: NodeLoad::default(),
    }
}

fn member(id: &str, disk: &str) -> MemberRecord {
    MemberRecord {
        id: id.into(),
        data_dir_id: disk.into(),
        host: "127.0.0.1".into(),
        port: 7001,
        peer_port: 7101,
        zone: String::new(),
        registered_at_ms: 1,
    }
}

fn plan(from: u32, to: u32, slots: &str) -> NewPlan {
    NewPlan {
        from,
        to,
        slots: slots.parse().unwrap(),
        limits: PlanLimits::default(),
    }
}

fn progress(state: PlanState) -> PlanProgressRecord {
    PlanProgressRecord {
        plan: 0,
        state,
        stage: PlanStage::Full,
        bytes_done: 1,
        bytes_total: 2,
        pause_ms: None,
        message: String::new(),
        updated_at_ms: 0,
    }
}

async fn wait_for(watch: &mut TopologyWatch, what: &str, found: impl FnMut(&Topology) -> bool) {
    if timeout(LIMIT, watch.wait_for(found)).await.is_err() {
        panic!("never seen: {what}; status {:?}", watch.status());
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>, text: &str) {
    let error = result.unwrap_err();
    assert!(error.is_definite(), "{error}");
    assert!(
        error.to_string().contains(text),
        "`{error}` does not say `{text}`"
    );
}

#[tokio::test]
async fn init_creates_what_is_missing_and_is_idempotent() {
    let etcd = Etcd::start();
    let store = store_at(&etcd).await;
    let bare = NewCluster {
        id: "cd".repeat(16),
        groups: Vec::new(),
    };
    assert_eq!(store.init(&bare).await.unwrap(), ["cluster `c1` created"]);
    let topology = store.list().await.unwrap();
    assert!(!topology.cluster.as_ref().unwrap().slots_initialised);
    assert!(store.read_slots().await.unwrap().is_none());

    let done = store.init(&two_groups()).await.unwrap();
    assert_eq!(done.len(), 5, "{done:?}");
    assert!(store.init(&two_groups()).await.unwrap().is_empty());
    let topology = store.list().await.unwrap();
    let cluster = topology.cluster.as_ref().unwrap();
    assert!(cluster.slots_initialised);
    assert_eq!(cluster.id, "cd".repeat(16));
    assert_eq!(topology.group_of(8191), Some(1));
    assert_eq!(topology.group_of(8192), Some(2));
    assert_eq!(store.read_slots().await.unwrap().unwrap().epoch, 1);

    let mut other = two_groups();
    other.groups[0].1 = vec!["n9".into()];
    refused(store.init(&other).await, "group 1 exists on n1");
}

#[tokio::test]
async fn a_node_id_is_bound_to_its_data_directory() {
    let (_etcd, store) = cluster().await;
    let first = store.claim_member(&member("n1", "disk1")).await.unwrap();
    assert_eq!(
        store.claim_member(&member("n1", "disk1")).await.unwrap(),
        first
    );
    refused(
        store.claim_member(&member("n1", "disk2")).await,
        "wiped or foreign disk",
    );
    refused(
        store.claim_member(&member("n3", "disk1")).await,
        "belongs to node `n1`",
    );
    let moved = MemberRecord {
        port: 9999,
        ..member("n1", "disk1")
    };
    assert!(store.claim_member(&moved).await.unwrap() > first);
    assert_eq!(
        store.list().await.unwrap().address_of("n1").unwrap().port,
        9999
    );

    refused(store.admit_member("n1", false).await, "is a member already");
    store.admit_member("n1", true).await.unwrap();
    store.claim_member(&member("n1", "disk2")).await.unwrap();
    store.mark_bootstrapped(1, FIRST_INCARNATION).await.unwrap();
    refused(
        store.admit_member("n1", true).await,
        "its data would be lost",
    );
}

#[tokio::test]
async fn a_node_waits_for_its_cluster_to_be_made() {
    let etcd = Etcd::start();
    let store = store_at(&etcd).await;
    let registration = store.register_node(node("n1", "disk1"));
    let mut state = registration.state();
    let told = state.wait_for(
        |s| matches!(s, RegistrationState::Waiting(why) if why.contains("cluster-admin --cluster c1 init")),
    );
    timeout(LIMIT, told).await.unwrap().unwrap();
    store.init(&two_groups()).await.unwrap();
    timeout(LIMIT, registration.wait_live())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn nodes_and_groups_are_removed_only_when_empty() {
    let (_etcd, store) = cluster().await;
    refused(
        store.remove_member("n1").await,
        "holds group(s) 1 with 8192 slots",
    );
    refused(store.remove_member("n7").await, "no node `n7`");
    refused(store.remove_group(1).await, "owns slots 0-8191");
    refused(store.create_group(3, &["n7".into()]).await, "not known");
    refused(
        store.create_group(1, &["n1".into()]).await,
        "exists already",
    );
    refused(
        store.create_group(3, &["n1".into(), "n2".into()]).await,
        "replication",
    );
    store.admit_member("n3", false).await.unwrap();
    store.create_group(3, &["n3".into()]).await.unwrap();
    refused(
        store.remove_member("n3").await,
        "holds group(s) 3 with 0 slots",
    );
    store.remove_group(3).await.unwrap();
    let alive = store.register_node(node("n3", "disk3"));
    timeout(LIMIT, alive.wait_live()).await.unwrap().unwrap();
    refused(store.remove_member("n3").await, "is alive");
    alive.deregister().await;
    store.remove_member("n3").await.unwrap();
    assert!(!store.list().await.unwrap().members.contains_key("n3"));
}

#[tokio::test]
async fn plans_that_cannot_work_are_refused() {
    let (_etcd, store) = cluster().await;
    for (bad, why) in [
        (plan(1, 1, "0"), "at once"),
        (plan(1, 2, ""), "no slots"),
        (plan(1, 5, "0"), "no group 5"),
        (
            plan(1, 2, "8000-9000"),
            "slots 8192-9000 are not owned by group 1",
        ),
    ] {
        refused(store.create_plan(&bad).await, why);
    }
    assert_eq!(store.create_plan(&plan(1, 2, "0-99")).await.unwrap().id, 1);
    refused(
        store.create_plan(&plan(1, 2, "50-150")).await,
        "moves slots 50-99 too",
    );
    assert_eq!(
        store.create_plan(&plan(1, 2, "100-150")).await.unwrap().id,
        2
    );
    refused(store.remove_group(2).await, "owns slots");
}

#[tokio::test]
async fn of_two_tools_that_order_the_same_slots_one_wins() {
    let (_etcd, store) = cluster().await;
    let tries = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.create_plan(&plan(1, 2, "0-9")).await.is_ok() })
    });
    let mut won = 0;
    for task in tries.collect::<Vec<_>>() {
        won += usize::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
    assert_eq!(store.list().await.unwrap().plans.len(), 1);
}

#[tokio::test]
async fn the_first_decision_wins_and_a_commit_moves_all_slots_with_it() {
    let (_etcd, store) = cluster().await;
    let moved = store
        .create_plan(&plan(1, 2, "0-99,200-299"))
        .await
        .unwrap();
    let kept = store.create_plan(&plan(1, 2, "300-399")).await.unwrap();
    let proof = store.prove_fresh(moved.id, "n1").await.unwrap();
    assert!(proof.decision.is_none());
    assert_eq!((proof.wanted, proof.slots.epoch), (WantedState::Run, 1));

    let commit = store
        .decide(moved.id, Verdict::Commit { slot_epoch: 2 }, "n1", "ready")
        .await
        .unwrap();
    assert_eq!((commit.decision, commit.slot_epoch), (Decision::Commit, 2));
    let late = store
        .decide(moved.id, Verdict::Abort, "n2", "too late")
        .await
        .unwrap();
    assert_eq!(late, commit);
    let abort = store
        .decide(kept.id, Verdict::Abort, "n1", "max-pause")
        .await
        .unwrap();
    assert_eq!((abort.decision, abort.slot_epoch), (Decision::Abort, 0));
    let late = store
        .decide(kept.id, Verdict::Commit { slot_epoch: 2 }, "n1", "late")
        .await
        .unwrap();
    assert_eq!(late, abort);
    assert_eq!(store.read_decision(kept.id).await.unwrap(), Some(abort));

    let topology = store.list().await.unwrap();
    for (slot, group, epoch) in [(0, 2, 2), (99, 2, 2), (100, 1, 1), (250, 2, 2), (300, 1, 1)] {
        assert_eq!(
            (topology.group_of(slot), topology.slot_epoch(slot)),
            (Some(group), Some(epoch))
        );
    }
    let proof = store.prove_fresh(moved.id, "n1").await.unwrap();
    assert_eq!(proof.decision, Some(commit));
    refused(
        store.set_wanted(moved.id, WantedState::Abort).await,
        "committed",
    );
    refused(
        store.decide(99, Verdict::Abort, "n1", "x").await,
        "no plan 99",
    );
    refused(
        store.prove_fresh(99, "n1").await.map(|p| p.revision),
        "no plan 99",
    );
}

#[tokio::test]
async fn commit_and_abort_at_once_give_one_answer_to_all() {
    let (_etcd, store) = cluster().await;
    for round in 0..5u16 {
        let slots = format!("{}-{}", round * 10, round * 10 + 9);
        let id = store.create_plan(&plan(1, 2, &slots)).await.unwrap().id;
        let askers = (0..8).map(|i| {
            let store = store.clone();
            let wish = if i % 2 == 0 {
                Verdict::Commit { slot_epoch: 2 }
            } else {
                Verdict::Abort
            };
            tokio::spawn(async move { store.decide(id, wish, "n", "race").await.unwrap().decision })
        });
        let mut answers = Vec::new();
        for task in askers.collect::<Vec<_>>() {
            answers.push(task.await.unwrap());
        }
        assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
        let owner = store.list().await.unwrap().group_of(round * 10);
        assert_eq!(owner == Some(2), answers[0] == Decision::Commit);
        let end = match answers[0] {
            Decision::Commit => PlanState::Done,
            Decision::Abort => PlanState::Aborted,
        };
        store
            .progress_writer(id)
            .write(&progress(end))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_finished_plan_is_never_turned_back() {
    let (_etcd, store) = cluster().await;
    let id = store.create_plan(&plan(1, 2, "0-9")).await.unwrap().id;
    let mut old_leader = store.progress_writer(id);
    let mut new_leader = store.progress_writer(id);
    old_leader
        .write(&progress(PlanState::Running))
        .await
        .unwrap();
    new_leader
        .write(&progress(PlanState::Running))
        .await
        .unwrap();
    old_leader
        .write(&progress(PlanState::Running))
        .await
        .unwrap();
    store.set_wanted(id, WantedState::Pause).await.unwrap();
    store.set_wanted(id, WantedState::Abort).await.unwrap();
    refused(
        store.set_wanted(id, WantedState::Run).await,
        "told to abort",
    );
    new_leader
        .write(&progress(PlanState::Aborted))
        .await
        .unwrap();
    refused(
        old_leader.write(&progress(PlanState::Running)).await,
        "is aborted already",
    );
    refused(
        store.set_wanted(id, WantedState::Run).await,
        "is aborted already",
    );
    let topology = store.list().await.unwrap();
    assert_eq!(topology.plan(id).unwrap().state(), PlanState::Aborted);
    store.create_plan(&plan(1, 2, "0-9")).await.unwrap();
}

#[tokio::test]
async fn a_leader_hint_of_a_lower_term_does_not_win() {
    let (_etcd, store) = cluster().await;
    let hint = |node: &str, term| LeaderRecord {
        group: 1,
        node: node.into(),
        term,
    };
    assert!(store.put_leader(&hint("n1", 5)).await.unwrap());
    assert!(!store.put_leader(&hint("n2", 4)).await.unwrap());
    assert!(store.put_leader(&hint("n2", 6)).await.unwrap());
    assert_eq!(store.list().await.unwrap().leaders[&1].node, "n2");
}

#[tokio::test]
async fn the_watch_recovers_when_etcd_is_killed_and_restarted() {
    let (mut etcd, store) = cluster().await;
    let mut watch = store.watch(Topology::default());
    timeout(LIMIT, watch.synced()).await.unwrap();
    store.admit_member("n3", false).await.unwrap();
    wait_for(&mut watch, "n3", |t| t.members.contains_key("n3")).await;

    for round in 0..2 {
        etcd.kill();
        let mut status = watch.status_changes();
        timeout(LIMIT, status.wait_for(|s| !s.following))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(watch.load().group_of(0), Some(1), "the last picture stays");
        assert!(store.list().await.is_err());
        etcd.restart();
        let id = format!("after{round}");
        let admitted = async {
            while store.admit_member(&id, false).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, admitted).await.unwrap();
        wait_for(&mut watch, "a node admitted after the restart", |t| {
            t.members.contains_key(&id)
        })
        .await;
        assert!(watch.status().following);
    }
}

#[tokio::test]
async fn the_watch_lists_again_when_its_revision_was_compacted() {
    let (mut etcd, store) = cluster().await;
    let mut watch = store.watch(Topology::default());
    timeout(LIMIT, watch.synced()).await.unwrap();
    assert_eq!(watch.status().listings, 1);

    // While the watch is cut off, history moves on and is compacted.
    etcd.kill();
    let usual = etcd.restart_elsewhere();
    let other = store_at(&etcd).await;
    let made = async {
        while other.admit_member("n4", false).await.is_err() {
            tokio::task::yield_now().await;
        }
        other.admit_member("n5", false).await.unwrap();
        let mut client = etcd_client::Client::connect([etcd.url()], None)
            .await
            .unwrap();
        let now = other.list().await.unwrap().revision;
        client.compact(now, None).await.unwrap();
    };
    timeout(LIMIT, made).await.unwrap();
    assert!(
        !watch.load().members.contains_key("n4"),
        "the watch was not cut off"
    );

    etcd.kill();
    etcd.restart_at(usual);
    wait_for(&mut watch, "n5", |t| t.members.contains_key("n5")).await;
    assert!(watch.status().listings >= 2, "{:?}", watch.status());
    store.admit_member("n6", false).await.unwrap();
    wait_for(&mut watch, "n6", |t| t.members.contains_key("n6")).await;
}

#[tokio::test]
async fn a_picture_from_a_file_is_brought_up_to_date() {
    let (_etcd, store) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("topology.json");
    save_cached(&file, "c1", &store.list().await.unwrap()).unwrap();
    store.admit_member("n4", false).await.unwrap();
    let mut watch = store.watch(load_cached(&file, "c1").unwrap().unwrap());
    assert_eq!(watch.load().group_of(0), Some(1));
    wait_for(&mut watch, "n4", |t| t.members.contains_key("n4")).await;
}

#[tokio::test]
async fn a_live_watch_meets_compaction_and_goes_on() {
    let (etcd, store) = cluster().await;
    let mut watch = store.watch(Topology::default());
    timeout(LIMIT, watch.synced()).await.unwrap();
    let mut client = etcd_client::Client::connect([etcd.url()], None)
        .await
        .unwrap();
    for i in 0..5 {
        // Revisions that the watch does not see, then compacted away.
        for n in 0..10 {
            client
                .put(format!("/elsewhere/{n}"), "x", None)
                .await
                .unwrap();
        }
        let now = store.list().await.unwrap().revision;
        client.compact(now, None).await.unwrap();
        let id = format!("m{i}");
        store.admit_member(&id, false).await.unwrap();
        wait_for(&mut watch, &id, |t| t.members.contains_key(&id)).await;
    }
}

#[tokio::test]
async fn a_cached_picture_is_served_while_etcd_is_away() {
    let (mut etcd, store) = cluster().await;
    let picture = store.list().await.unwrap();
    etcd.kill();
    let mut watch = store.watch(picture);
    assert_eq!(watch.load().group_of(16383), Some(2));
    assert!(!watch.status().synced);
    etcd.restart();
    timeout(LIMIT, watch.synced()).await.unwrap();
}

#[tokio::test]
async fn a_recreated_cluster_of_the_same_name_is_refused() {
    let (etcd, store) = cluster().await;
    let mut watch = store.watch(Topology::default());
    timeout(LIMIT, watch.synced()).await.unwrap();
    let mut client = etcd_client::Client::connect([etcd.url()], None)
        .await
        .unwrap();
    let known = watch.load().cluster.as_ref().unwrap().id.clone();
    let foreign = format!(
        r#"{{"v":1,"id":"{}","name":"c1","created_at_ms":1,"slots_initialised":true}}"#,
        "ff".repeat(16)
    );
    client
        .put("/cairn/c1/cluster", foreign, None)
        .await
        .unwrap();
    let mut status = watch.status_changes();
    let told = status.wait_for(|s| {
        s.problem
            .as_ref()
            .is_some_and(|p| p.contains("another cluster"))
    });
    timeout(LIMIT, told).await.unwrap().unwrap();
    assert_eq!(watch.load().cluster.as_ref().unwrap().id, known);
    assert_eq!(watch.load().group_of(0), Some(1));
}

#[tokio::test]
async fn a_node_registers_again_after_etcd_was_away_longer_than_its_lease() {
    let (mut etcd, store) = cluster().await;
    let mut watch = store.watch(Topology::default());
    let registration = store.register_node(node("n1", "disk1"));
    timeout(LIMIT, registration.wait_live())
        .await
        .unwrap()
        .unwrap();
    wait_for(&mut watch, "n1", |t| t.nodes.contains_key("n1")).await;
    let load = NodeLoad {
        keys: 42,
        ..NodeLoad::default()
    };
    registration.set_load(load.clone());
    wait_for(&mut watch, "its load", |t| {
        t.nodes.get("n1").is_some_and(|n| n.load == load)
    })
    .await;

    etcd.kill();
    let mut state = registration.state();
    let away = state.wait_for(|s| matches!(s, RegistrationState::Waiting(_)));
    timeout(LIMIT, away).await.unwrap().unwrap();
    etcd.restart();
    timeout(LIMIT, registration.wait_live())
        .await
        .unwrap()
        .unwrap();
    wait_for(&mut watch, "n1 again", |t| {
        t.nodes.get("n1").is_some_and(|n| n.load == load)
    })
    .await;

    // Somebody revokes the lease (or etcd let it run out while we were cut off).
    let mut client = etcd_client::Client::connect([etcd.url()], None)
        .await
        .unwrap();
    let found = client.get("/cairn/c1/nodes/n1", None).await.unwrap();
    let lease = found.kvs()[0].lease();
    client.lease_revoke(lease).await.unwrap();
    wait_for(&mut watch, "n1 under a new lease", |t| {
        t.nodes.contains_key("n1")
    })
    .await;
    let again = async {
        loop {
            let found = client.get("/cairn/c1/nodes/n1", None).await.unwrap();
            if found.kvs().first().is_some_and(|kv| kv.lease() != lease) {
                break;
            }
        }
    };
    timeout(LIMIT, again).await.unwrap();
    registration.deregister().await;
    wait_for(&mut watch, "n1 gone", |t| !t.nodes.contains_key("n1")).await;
}

#[tokio::test]
async fn a_node_with_a_foreign_disk_is_told_for_good() {
    let (_etcd, store) = cluster().await;
    store.claim_member(&member("n1", "disk1")).await.unwrap();
    let registration = store.register_node(node("n1", "disk2"));
    let refusal = timeout(LIMIT, registration.wait_live())
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        refusal.to_string().contains("wiped or foreign disk"),
        "{refusal}"
    );
    assert!(!store.list().await.unwrap().nodes.contains_key("n1"));
}

#[tokio::test]
async fn a_dead_node_disappears_but_its_last_address_stays() {
    let (_etcd, store) = cluster().await;
    let mut watch = store.watch(Topology::default());
    let registration = store.register_node(node("n1", "disk1"));
    wait_for(&mut watch, "n1", |t| {
        t.slot_address(0).is_some_and(|a| a.alive)
    })
    .await;
    drop(registration);
    wait_for(&mut watch, "n1 down", |t| {
        t.slot_address(0).is_some_and(|a| !a.alive)
    })
    .await;
}

/// A cluster that an earlier program has made.
async fn at_version(etcd: &Etcd, version: u32) {
    let mut client = etcd_client::Client::connect([etcd.url()], None)
        .await
        .unwrap();
    let record = format!(r#"{{"v":1,"cluster_version":{version}}}"#);
    let key = "/cairn/c1/settings/cluster_version";
    client.put(key, record, None).await.unwrap();
}

#[tokio::test]
async fn the_cluster_version_rises_only_when_every_member_supports_it() {
    let (etcd, store) = cluster().await;
    at_version(&etcd, 1).await;
    let users = || UsersRecord::new(&[b"user ann on nopass ~* &* +@all".to_vec()]);
    refused(
        store.require_version(2).await,
        "the cluster is at version 1",
    );
    let mut registered = Vec::new();
    for (id, disk, most) in [("n1", "disk1", 2), ("n2", "disk2", 1)] {
        store.claim_member(&member(id, disk)).await.unwrap();
        if id == "n2" {
            assert_eq!(
                store.raise_cluster_version().await.unwrap(),
                None,
                "n2 is away"
            );
        }
        let registration = store.register_node(NodeRecord {
            max_cluster_version: most,
            ..node(id, disk)
        });
        timeout(LIMIT, registration.wait_live())
            .await
            .unwrap()
            .unwrap();
        registered.push(registration);
    }
    assert_eq!(
        store.raise_cluster_version().await.unwrap(),
        None,
        "n2 is old"
    );
    registered.pop().unwrap().deregister().await;
    let upgraded = store.register_node(NodeRecord {
        max_cluster_version: 9,
        ..node("n2", "disk2")
    });
    timeout(LIMIT, upgraded.wait_live()).await.unwrap().unwrap();
    assert_eq!(store.raise_cluster_version().await.unwrap(), Some(2));
    store.require_version(2).await.unwrap();
    store.change_users(None, users()).await.unwrap().unwrap();

    at_version(&etcd, CLUSTER_VERSION + 1).await;
    refused(
        store.claim_member(&member("n1", "disk1")).await,
        "start a newer one",
    );
}
