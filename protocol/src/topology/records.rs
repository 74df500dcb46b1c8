//! The records of a cluster's topology, as JSON in etcd.
//!
//! Every value is one JSON object with a `v` field: the version of that record.
//! A reader ignores fields that it does not know (so that fields may be added)
//! and refuses a version above its own (so that a meaning may be changed, behind
//! `settings/cluster_version`). Times are milliseconds since the Unix epoch by
//! the writer's clock and are for people only: nothing is decided by them.
//!
//! # How a group comes to life
//!
//! A node learns from `groups/<id>` that it hosts a replica of the group, and
//! creates it, but only once the cluster record says `slots_initialised`. At
//! incarnation 1 and with `bootstrapped` false, the node reads the `slots`
//! record and writes the ranges of this group, each with its epoch, as the first
//! ownership into the group's replicated state; when that is durable it calls
//! `TopologyStore::mark_bootstrapped`. From then on the `slots` record is a hint
//! for this group: ownership changes only through FREEZE, OWN and RELEASE in its
//! log. A node that finds `bootstrapped` true and no data of the group on its
//! disk must refuse: the data is lost or elsewhere, and an empty group must not
//! answer in its place.

mod slot_map;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::slot_map::{SlotMapError, SlotMapRecord, SlotRange};
use crate::slot::SlotSet;

/// Number of a group; 1 and up (0 means "none" in compact tables).
pub type GroupId = u32;
/// Name of a node, chosen by the operator; see `is_valid_id`.
pub type NodeId = String;
/// Number of a plan; 1 and up, never reused within a cluster.
pub type PlanId = u64;

/// The highest `settings/cluster_version` that this program can work under.
pub const CLUSTER_VERSION: u32 = 3;

/// What came with which cluster version. Before that is in force nobody writes it: a
/// node of an earlier program could not read it, or would not keep to it.
pub mod since {
    /// Entries whose rows go ahead (operations 12 and 13 of an entry of effects).
    pub const ROWS_AHEAD: u32 = 2;
    /// Users that are the cluster's (`settings/users`).
    pub const USERS: u32 = 2;
    /// Libraries of functions that are the cluster's.
    pub const FUNCTIONS: u32 = 2;
    /// Rows of a stream's nodes that name the next node.
    pub const NAMED_NODES: u32 = 3;
}
/// Incarnation of a group when it is created; unsafe recovery raises it.
pub const FIRST_INCARNATION: u64 = 1;

/// Milliseconds since the Unix epoch by this machine's clock (for people).
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

/// A value that cannot be read as the record it should be.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or a field is missing or of the wrong shape.
    #[error("not a {name} record")]
    Malformed {
        /// Kind of record.
        name: &'static str,
        /// The parser's own error.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a later version of Cairn.
    #[error(
        "{name} record of version {found}, this program reads up to {supported}: upgrade this program"
    )]
    TooNew {
        /// Kind of record.
        name: &'static str,
        /// Version in the value.
        found: u32,
        /// Highest version read here.
        supported: u32,
    },
}

/// One kind of record: how its JSON is framed and versioned.
pub trait Record: Serialize + DeserializeOwned {
    /// Kind, for messages.
    const NAME: &'static str;
    /// Version written, and the highest that is read.
    const VERSION: u32;

    /// The JSON value, `v` first.
    fn encode(&self) -> Vec<u8> {
        let framed = Framed {
            v: Self::VERSION,
            body: self,
        };
        serde_json::to_vec(&framed).expect("records hold only strings, numbers and lists")
    }

    /// Reads a JSON value.
    ///
    /// # Errors
    /// Malformed JSON, a missing field, or a version above `VERSION`.
    fn decode(json: &[u8]) -> Result<Self, RecordError> {
        let malformed = |source| RecordError::Malformed {
            name: Self::NAME,
            source,
        };
        let version: VersionOnly = serde_json::from_slice(json).map_err(malformed)?;
        if version.v > Self::VERSION {
            return Err(RecordError::TooNew {
                name: Self::NAME,
                found: version.v,
                supported: Self::VERSION,
            });
        }
        serde_json::from_slice(json).map_err(malformed)
    }
}

#[derive(Serialize)]
struct Framed<'a, T: Serialize> {
    v: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

macro_rules! record {
    ($type:ty, $name:literal, $version:literal) => {
        impl Record for $type {
            const NAME: &'static str = $name;
            const VERSION: u32 = $version;
        }
    };
}

record!(ClusterRecord, "cluster", 1);
record!(ClusterVersionRecord, "cluster_version", 1);
record!(MemberRecord, "member", 1);
record!(NodeRecord, "node", 1);
record!(ProxyRecord, "proxy", 1);
record!(GroupRecord, "group", 1);
record!(LeaderRecord, "leader", 1);
record!(SlotMapRecord, "slots", 1);
record!(PlanSequenceRecord, "plan sequence", 1);
record!(PlanRecord, "plan", 1);
record!(PlanProgressRecord, "plan progress", 1);
record!(FreezeProofRecord, "freeze proof", 1);
record!(DecisionRecord, "decision", 1);
record!(FunctionRecord, "function", 1);
record!(FunctionSequenceRecord, "function sequence", 1);
record!(UsersRecord, "users", 1);

/// `cluster`: that the cluster exists, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// 32 hex digits, drawn once: tells two clusters of one name apart.
    pub id: String,
    /// Name, as in the etcd path.
    pub name: String,
    /// When `init` made it.
    pub created_at_ms: u64,
    /// Whether the `slots` record holds the first full spread. Before that no
    /// node creates a group.
    pub slots_initialised: bool,
}

/// `settings/cluster_version`: the gate of upgrades. No node writes a format or
/// entry kind above it; it rises only when every node supports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterVersionRecord {
    /// The version in force.
    pub cluster_version: u32,
}

/// `members/<id>`: that a node belongs to the cluster. Not leased.
///
/// A node's identity is its id *and* its data directory's id. An operator may
/// admit an id ahead of time (`data_dir_id` empty); the first start binds it.
/// A start with another data directory (wiped or foreign disk) is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Node id, as in the path.
    pub id: NodeId,
    /// Id written once into the node's data directory; empty: not started yet.
    pub data_dir_id: String,
    /// Last known address, used while the node's lease is gone (etcd away from
    /// the node does not mean that clients are). Empty: not started yet.
    pub host: String,
    /// RESP port; 0: not started yet.
    pub port: u16,
    /// Port of private links and of other nodes; 0: not started yet.
    pub peer_port: u16,
    /// Failure zone, empty if none was given.
    #[serde(default)]
    pub zone: String,
    /// When it was admitted or first started.
    pub registered_at_ms: u64,
}

/// `nodes/<id>`: a living node. Leased: gone within the lease's time after the
/// node, or its way to etcd, dies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Node id, as in the path.
    pub id: NodeId,
    /// Id of the data directory, see `MemberRecord`.
    pub data_dir_id: String,
    /// Host that clients, proxies and peers are told.
    pub host: String,
    /// RESP port.
    pub port: u16,
    /// Port of private links and of other nodes.
    pub peer_port: u16,
    /// Failure zone, empty if none was given.
    #[serde(default)]
    pub zone: String,
    /// Version of the program, as `0.1.0`.
    pub version: String,
    /// Highest cluster version that the program supports.
    pub max_cluster_version: u32,
    /// When the process started.
    pub started_at_ms: u64,
    /// Last reported load.
    #[serde(default)]
    pub load: NodeLoad,
}

/// How busy a node is; renewed every few seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Group replicas hosted.
    pub groups: u32,
    /// Live keys of all groups.
    pub keys: u64,
    /// Bytes on disk of all groups.
    pub bytes: u64,
    /// Free bytes of the file system with the data directory.
    pub disk_free_bytes: u64,
    /// Commands of the last second.
    pub ops_per_sec: u64,
}

/// `proxies/<id>`: a living proxy. Leased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyRecord {
    /// Proxy id, as in the path.
    pub id: String,
    /// Host that clients are told.
    pub host: String,
    /// RESP port.
    pub port: u16,
    /// Version of the program.
    pub version: String,
    /// When the process started.
    pub started_at_ms: u64,
}

/// `groups/<id>`: a group and who holds it. See the module's header for how a
/// node brings it to life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Number, as in the path; 1 and up.
    pub id: GroupId,
    /// Nodes that host a replica. One for now.
    pub replicas: Vec<NodeId>,
    /// `FIRST_INCARNATION` when created; raised by unsafe recovery, which fences
    /// the replicas of lower incarnations.
    pub incarnation: u64,
    /// Whether the first ownership was read from the `slots` record and is
    /// durable in the group.
    #[serde(default)]
    pub bootstrapped: bool,
    /// When it was created.
    pub created_at_ms: u64,
}

/// `leaders/<group>`: a hint where the leader is. With one replica there is no
/// such record and the replica leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// Group, as in the path.
    pub group: GroupId,
    /// Node whose replica leads.
    pub node: NodeId,
    /// Raft term; a hint of a lower term never replaces one of a higher.
    pub term: u64,
}

/// `functions/<library>`: a library of functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionRecord {
    /// Its name, as in the path.
    pub name: String,
    /// Its code as it was given, shebang and all: each byte a character of the
    /// same number, since code may be any bytes.
    pub code: String,
    /// Node that was asked to load it. A client of the whole cluster asks every
    /// node, and all but the first have it already.
    pub loaded_by: NodeId,
}

impl FunctionRecord {
    /// A library of that code.
    pub fn new(name: &[u8], code: &[u8], loaded_by: &str) -> Self {
        Self {
            name: bytes_as_text(name),
            code: bytes_as_text(code),
            loaded_by: loaded_by.to_owned(),
        }
    }

    /// The code's bytes; `None` if they are none.
    pub fn code(&self) -> Option<Vec<u8>> {
        text_as_bytes(&self.code)
    }
}

/// Any bytes as text: each a character of the same number.
fn bytes_as_text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn text_as_bytes(text: &str) -> Option<Vec<u8>> {
    let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).ok());
    bytes.collect()
}

/// `sequences/functions`: rises with every change of libraries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSequenceRecord {
    /// Changes so far.
    pub changes: u64,
}

/// `settings/users`: the users of the cluster, all in one record, so that
/// nobody ever sees half a change. Before there is one, each program has the
/// default user of its own configuration and no other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsersRecord {
    /// A line of an ACL file each, `user NAME rules...`; each byte a character
    /// of the same number, since names and patterns may be any bytes.
    pub users: Vec<String>,
}

impl UsersRecord {
    /// The record of these lines.
    pub fn new(lines: &[Vec<u8>]) -> Self {
        let users = lines.iter().map(|line| bytes_as_text(line)).collect();
        Self { users }
    }

    /// The text of an ACL file; `None` if it holds what is no byte.
    pub fn text(&self) -> Option<Vec<u8>> {
        text_as_bytes(&self.users.join("\n"))
    }
}

/// `sequences/plan`: the last plan's number. Creating a plan changes it, which
/// also makes two tools that plan at once take turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSequenceRecord {
    /// Number of the last plan.
    pub last: PlanId,
}

/// What the operator wants of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WantedState {
    /// Go on.
    Run,
    /// Hold at the next safe point (never inside the switch).
    Pause,
    /// Give up and clean up, unless it was committed first.
    Abort,
}

/// Limits of one move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLimits {
    /// Bytes a second of bulk and increments together; none: as fast as may be.
    pub max_rate_bytes_per_sec: Option<u64>,
    /// Longest pause of the switch in ms, after which the source asks for abort.
    pub max_pause_ms: u64,
    /// Bytes of log (or spooled effects) that the source may keep for the move at one time.
    pub migration_log_limit_bytes: u64,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self {
            max_rate_bytes_per_sec: None,
            max_pause_ms: 200,
            migration_log_limit_bytes: 1 << 30,
        }
    }
}

/// `plans/<id>`: a move of slots, as the operator ordered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// Number, as in the path.
    pub id: PlanId,
    /// Group that owns the slots when the plan is made.
    pub from: GroupId,
    /// Group that shall own them.
    pub to: GroupId,
    /// The slots, as a range string.
    pub slots: SlotSet,
    /// Limits of the move.
    pub limits: PlanLimits,
    /// What the operator wants now.
    pub wanted: WantedState,
    /// When it was ordered.
    pub created_at_ms: u64,
}

/// How a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanState {
    /// On its way (or waiting for its source's leader).
    Running,
    /// Held by the operator.
    Paused,
    /// Committed and cleaned up.
    Done,
    /// Given up; the source owns the slots as before.
    Aborted,
    /// Could not be done; the source owns the slots as before.
    Failed,
}

impl PlanState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Aborted | Self::Failed)
    }
}

impl fmt::Display for PlanState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        })
    }
}

/// The three stages of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanStage {
    /// Bulk copy in chunks.
    Full,
    /// Effects since the chunks.
    Increment,
    /// Freeze, drain, decide, own.
    Switch,
}

impl fmt::Display for PlanStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Full => "full",
            Self::Increment => "increment",
            Self::Switch => "switch",
        })
    }
}

/// `plans/<id>/progress`: how far the source got. Written by the source's
/// leader, for people and tools; the move itself resumes from replicated state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanProgressRecord {
    /// Number of the plan.
    pub plan: PlanId,
    /// How it stands.
    pub state: PlanState,
    /// Where it is.
    pub stage: PlanStage,
    /// Bytes copied of the bulk.
    pub bytes_done: u64,
    /// Bytes of the bulk, as estimated when the move began.
    pub bytes_total: u64,
    /// Measured pause of the switch in ms, once there was one.
    pub pause_ms: Option<u64>,
    /// What it is doing or why it stopped, for people.
    pub message: String,
    /// When this was written.
    pub updated_at_ms: u64,
}

/// `plans/<id>/proof`: written by the source right before FREEZE, to prove that
/// etcd takes writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeProofRecord {
    /// Number of the plan.
    pub plan: PlanId,
    /// Node that proves.
    pub node: NodeId,
    /// When.
    pub at_ms: u64,
}

/// The two ways a plan can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The destination owns the slots.
    Commit,
    /// The source keeps them.
    Abort,
}

/// `decisions/<plan>`: how a plan ended, for all its slots at once. Created
/// once, never changed; a commit is created in the transaction that changes the
/// `slots` record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Number of the plan.
    pub plan: PlanId,
    /// Which it is.
    pub decision: Decision,
    /// Commit: the epoch under which the destination owns the slots. Abort: 0.
    pub slot_epoch: u32,
    /// Node or tool that decided.
    pub by: String,
    /// Why, for people.
    pub reason: String,
    /// When.
    pub decided_at_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a record are frozen: what one version wrote, every later one reads.
    fn golden<T: Record + PartialEq + fmt::Debug>(record: &T, json: &str) {
        assert_eq!(String::from_utf8(record.encode()).unwrap(), json);
        assert_eq!(&T::decode(json.as_bytes()).unwrap(), record);
    }

    #[test]
    fn golden_cluster_and_settings() {
        let cluster = ClusterRecord {
            id: "0123456789abcdef0123456789abcdef".into(),
            name: "c1".into(),
            created_at_ms: 1_700_000_000_000,
            slots_initialised: true,
        };
        golden(
            &cluster,
            r#"{"v":1,"id":"0123456789abcdef0123456789abcdef","name":"c1","created_at_ms":1700000000000,"slots_initialised":true}"#,
        );
        golden(
            &ClusterVersionRecord { cluster_version: 1 },
            r#"{"v":1,"cluster_version":1}"#,
        );
        golden(&PlanSequenceRecord { last: 4 }, r#"{"v":1,"last":4}"#);
        golden(
            &FunctionSequenceRecord { changes: 4 },
            r#"{"v":1,"changes":4}"#,
        );
        golden(
            &FunctionRecord::new(b"lib", b"#!lua name=lib\n\xff", "n1"),
            "{\"v\":1,\"name\":\"lib\",\"code\":\"#!lua name=lib\\nÿ\",\"loaded_by\":\"n1\"}",
        );
        let code = FunctionRecord::new(b"lib", b"a\xff", "n1").code();
        assert_eq!(code.as_deref(), Some(&b"a\xff"[..]));
        let lines = [b"user a on".to_vec(), b"user \xff off".to_vec()];
        let users = UsersRecord::new(&lines);
        golden(&users, "{\"v\":1,\"users\":[\"user a on\",\"user ÿ off\"]}");
        assert_eq!(users.text().unwrap(), b"user a on\nuser \xff off");
    }

    #[test]
    fn golden_members_nodes_and_proxies() {
        let member = MemberRecord {
            id: "n1".into(),
            data_dir_id: "d1".into(),
            host: "10.0.0.1".into(),
            port: 7001,
            peer_port: 7101,
            zone: "a".into(),
            registered_at_ms: 5,
        };
        golden(
            &member,
            r#"{"v":1,"id":"n1","data_dir_id":"d1","host":"10.0.0.1","port":7001,"peer_port":7101,"zone":"a","registered_at_ms":5}"#,
        );
        let load = NodeLoad {
            groups: 1,
            keys: 2,
            bytes: 3,
            disk_free_bytes: 4,
            ops_per_sec: 5,
        };
        let node = NodeRecord {
            id: "n1".into(),
            data_dir_id: "d1".into(),
            host: "10.0.0.1".into(),
            port: 7001,
            peer_port: 7101,
            zone: String::new(),
            version: "0.1.0".into(),
            max_cluster_version: 1,
            started_at_ms: 6,
            load,
        };
        golden(
            &node,
            r#"{"v":1,"id":"n1","data_dir_id":"d1","host":"10.0.0.1","port":7001,"peer_port":7101,"zone":"","version":"0.1.0","max_cluster_version":1,"started_at_ms":6,"load":{"groups":1,"keys":2,"bytes":3,"disk_free_bytes":4,"ops_per_sec":5}}"#,
        );
        let proxy = ProxyRecord {
            id: "p1".into(),
            host: "h".into(),
            port: 6379,
            version: "0.1.0".into(),
            started_at_ms: 7,
        };
        golden(
            &proxy,
            r#"{"v":1,"id":"p1","host":"h","port":6379,"version":"0.1.0","started_at_ms":7}"#,
        );
    }

    #[test]
    fn golden_groups_leaders_and_slots() {
        let group = GroupRecord {
            id: 1,
            replicas: vec!["n1".into()],
            incarnation: 1,
            bootstrapped: true,
            created_at_ms: 8,
        };
        golden(
            &group,
            r#"{"v":1,"id":1,"replicas":["n1"],"incarnation":1,"bootstrapped":true,"created_at_ms":8}"#,
        );
        golden(
            &LeaderRecord {
                group: 1,
                node: "n1".into(),
                term: 3,
            },
            r#"{"v":1,"group":1,"node":"n1","term":3}"#,
        );
        golden(
            &SlotMapRecord::spread(&[1, 2]),
            r#"{"v":1,"epoch":1,"ranges":[{"lo":0,"hi":8191,"group":1,"epoch":1},{"lo":8192,"hi":16383,"group":2,"epoch":1}]}"#,
        );
    }

    #[test]
    fn golden_plans_progress_and_decisions() {
        let plan = PlanRecord {
            id: 3,
            from: 1,
            to: 2,
            slots: "0-99,200".parse().unwrap(),
            limits: PlanLimits {
                max_rate_bytes_per_sec: Some(1000),
                ..PlanLimits::default()
            },
            wanted: WantedState::Run,
            created_at_ms: 9,
        };
        golden(
            &plan,
            r#"{"v":1,"id":3,"from":1,"to":2,"slots":"0-99,200","limits":{"max_rate_bytes_per_sec":1000,"max_pause_ms":200,"migration_log_limit_bytes":1073741824},"wanted":"run","created_at_ms":9}"#,
        );
        let progress = PlanProgressRecord {
            plan: 3,
            state: PlanState::Running,
            stage: PlanStage::Increment,
            bytes_done: 10,
            bytes_total: 20,
            pause_ms: None,
            message: "m".into(),
            updated_at_ms: 11,
        };
        golden(
            &progress,
            r#"{"v":1,"plan":3,"state":"running","stage":"increment","bytes_done":10,"bytes_total":20,"pause_ms":null,"message":"m","updated_at_ms":11}"#,
        );
        golden(
            &FreezeProofRecord {
                plan: 3,
                node: "n1".into(),
                at_ms: 12,
            },
            r#"{"v":1,"plan":3,"node":"n1","at_ms":12}"#,
        );
        let decision = DecisionRecord {
            plan: 3,
            decision: Decision::Commit,
            slot_epoch: 2,
            by: "n1".into(),
            reason: "ready".into(),
            decided_at_ms: 13,
        };
        golden(
            &decision,
            r#"{"v":1,"plan":3,"decision":"commit","slot_epoch":2,"by":"n1","reason":"ready","decided_at_ms":13}"#,
        );
    }

    #[test]
    fn later_versions_are_refused_and_unknown_fields_ignored() {
        let error = ClusterVersionRecord::decode(br#"{"v":2,"other":1}"#).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
        let read = ClusterVersionRecord::decode(br#"{"v":1,"cluster_version":1,"new":[1]}"#);
        assert_eq!(read.unwrap().cluster_version, 1);
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"v":1}"#,
            r#"{"v":-1,"cluster_version":1}"#,
        ] {
            assert!(
                ClusterVersionRecord::decode(bad.as_bytes()).is_err(),
                "{bad}"
            );
        }
    }
}
