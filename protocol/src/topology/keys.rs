//! Paths of the records under `/cairn/<cluster>/`.
//!
//! ```text
//! cluster                    settings/cluster_version   settings/users
//! members/<node>             nodes/<node>      (leased)
//! proxies/<proxy>  (leased)  groups/<id>       leaders/<group>
//! slots                      sequences/plan
//! plans/<id>                 plans/<id>/progress   plans/<id>/proof
//! decisions/<plan>
//! functions/<library>        sequences/functions
//! ```

use super::records::{GroupId, NodeId, PlanId};

/// Longest name of a cluster, node or proxy, in bytes.
const MAX_ID_LEN: usize = 64;

/// Whether a name may become a part of an etcd path (and of file names):
/// 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot.
pub fn is_valid_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= MAX_ID_LEN
        && !id.starts_with('.')
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Builds and reads the paths of one cluster.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Paths of the cluster of this name; the name is checked by the caller.
    pub fn new(cluster: &str) -> Self {
        Self {
            prefix: format!("/cairn/{cluster}/"),
        }
    }

    /// What every record of the cluster begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Full path of a record.
    pub fn path(&self, key: &RecordKey) -> String {
        format!("{}{}", self.prefix, key.relative())
    }

    /// The record that lives at a full path; `None` for a path that this
    /// version does not know.
    pub fn parse(&self, path: &[u8]) -> Option<RecordKey> {
        let path = std::str::from_utf8(path).ok()?;
        RecordKey::parse_relative(path.strip_prefix(&self.prefix)?)
    }
}

/// The name of one record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKey {
    /// `cluster`
    Cluster,
    /// `settings/cluster_version`
    ClusterVersion,
    /// `members/<node>`
    Member(NodeId),
    /// `nodes/<node>`, leased
    Node(NodeId),
    /// `proxies/<proxy>`, leased
    Proxy(String),
    /// `groups/<id>`
    Group(GroupId),
    /// `leaders/<group>`
    Leader(GroupId),
    /// `slots`
    Slots,
    /// `sequences/plan`
    PlanSequence,
    /// `plans/<id>`
    Plan(PlanId),
    /// `plans/<id>/progress`
    PlanProgress(PlanId),
    /// `plans/<id>/proof`
    PlanProof(PlanId),
    /// `decisions/<plan>`
    Decision(PlanId),
    /// `functions/<library>`
    Function(String),
    /// `sequences/functions`
    FunctionSequence,
    /// `settings/users`
    Users,
}

impl RecordKey {
    /// Path below the cluster's prefix.
    pub fn relative(&self) -> String {
        match self {
            Self::Cluster => "cluster".into(),
            Self::ClusterVersion => "settings/cluster_version".into(),
            Self::Member(id) => format!("members/{id}"),
            Self::Node(id) => format!("nodes/{id}"),
            Self::Proxy(id) => format!("proxies/{id}"),
            Self::Group(id) => format!("groups/{id}"),
            Self::Leader(id) => format!("leaders/{id}"),
            Self::Slots => "slots".into(),
            Self::PlanSequence => "sequences/plan".into(),
            Self::Plan(id) => format!("plans/{id}"),
            Self::PlanProgress(id) => format!("plans/{id}/progress"),
            Self::PlanProof(id) => format!("plans/{id}/proof"),
            Self::Decision(id) => format!("decisions/{id}"),
            Self::Function(name) => format!("functions/{name}"),
            Self::FunctionSequence => "sequences/functions".into(),
            Self::Users => "settings/users".into(),
        }
    }

    /// Reads what `relative` wrote.
    pub fn parse_relative(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        Some(match parts.as_slice() {
            ["cluster"] => Self::Cluster,
            ["slots"] => Self::Slots,
            ["settings", "cluster_version"] => Self::ClusterVersion,
            ["sequences", "plan"] => Self::PlanSequence,
            ["members", id] => Self::Member((*id).into()),
            ["nodes", id] => Self::Node((*id).into()),
            ["proxies", id] => Self::Proxy((*id).into()),
            ["groups", id] => Self::Group(id.parse().ok()?),
            ["leaders", id] => Self::Leader(id.parse().ok()?),
            ["plans", id] => Self::Plan(id.parse().ok()?),
            ["plans", id, "progress"] => Self::PlanProgress(id.parse().ok()?),
            ["plans", id, "proof"] => Self::PlanProof(id.parse().ok()?),
            ["decisions", id] => Self::Decision(id.parse().ok()?),
            ["functions", name] => Self::Function((*name).into()),
            ["sequences", "functions"] => Self::FunctionSequence,
            ["settings", "users"] => Self::Users,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_reads_back_as_the_record_it_names() {
        let keys = Keys::new("c1");
        let all = [
            (RecordKey::Cluster, "/cairn/c1/cluster"),
            (
                RecordKey::ClusterVersion,
                "/cairn/c1/settings/cluster_version",
            ),
            (RecordKey::Member("n1".into()), "/cairn/c1/members/n1"),
            (RecordKey::Node("n1".into()), "/cairn/c1/nodes/n1"),
            (RecordKey::Proxy("p1".into()), "/cairn/c1/proxies/p1"),
            (RecordKey::Group(3), "/cairn/c1/groups/3"),
            (RecordKey::Leader(3), "/cairn/c1/leaders/3"),
            (RecordKey::Slots, "/cairn/c1/slots"),
            (RecordKey::PlanSequence, "/cairn/c1/sequences/plan"),
            (RecordKey::Plan(7), "/cairn/c1/plans/7"),
            (RecordKey::PlanProgress(7), "/cairn/c1/plans/7/progress"),
            (RecordKey::PlanProof(7), "/cairn/c1/plans/7/proof"),
            (RecordKey::Decision(7), "/cairn/c1/decisions/7"),
            (
                RecordKey::Function("lib_1".into()),
                "/cairn/c1/functions/lib_1",
            ),
            (RecordKey::FunctionSequence, "/cairn/c1/sequences/functions"),
            (RecordKey::Users, "/cairn/c1/settings/users"),
        ];
        for (key, path) in all {
            assert_eq!(keys.path(&key), path);
            assert_eq!(keys.parse(path.as_bytes()), Some(key));
        }
    }

    #[test]
    fn foreign_and_later_paths_are_not_ours() {
        let keys = Keys::new("c1");
        for path in [
            "/cairn/c10/slots",
            "/cairn/c1/groups/x",
            "/cairn/c1/future/1",
            "/cairn/c1/",
        ] {
            assert_eq!(keys.parse(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn ids_cannot_leave_their_place_in_the_path() {
        for good in ["n1", "node-1.zone_a", "A"] {
            assert!(is_valid_id(good), "{good}");
        }
        for bad in ["", "a/b", "..", ".hidden", "a b", "é", &"x".repeat(65)] {
            assert!(!is_valid_id(bad), "{bad}");
        }
    }
}
