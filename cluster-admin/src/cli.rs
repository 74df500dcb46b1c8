//! The command line. Fixed: scripts depend on it; verbs and flags are only added.

use std::path::PathBuf;
use std::time::Duration;

use cairn_protocol::slot::SlotSet;
use cairn_protocol::topology::{GroupId, PlanId};
use clap::{Args, Parser, Subcommand};

use crate::units::{parse_bytes, parse_duration};

const EXIT_CODES: &str = "Exit codes: 0 done, 1 refused or failed, 2 wrong command line, \
3 `status` found the cluster unhealthy, 4 a followed move did not move anything, \
130 interrupted (a move goes on). CAIRN_LOG=debug shows what goes on inside.";

/// Plans and records in etcd; the nodes execute.
#[derive(Debug, Parser)]
#[command(name = "cluster-admin", version, about = "The operator's tool of Cairn", after_help = EXIT_CODES)]
pub struct Cli {
    /// Name of the cluster
    #[arg(long, global = true, default_value = "cairn", value_name = "NAME")]
    pub cluster: String,
    /// URLs of etcd, separated by commas
    #[arg(
        long,
        global = true,
        default_value = "http://127.0.0.1:2379",
        value_name = "URL[,URL]"
    )]
    pub etcd: String,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create the cluster: its record, settings, groups and slot map (again is harmless)
    Init(InitArgs),
    /// Nodes that belong to the cluster
    #[command(subcommand)]
    Node(NodeVerb),
    /// Groups and the nodes that hold them
    #[command(subcommand)]
    Group(GroupVerb),
    /// Which group owns which slots
    Slots,
    /// Whether all is well; exit code 3 if not
    Status,
    /// Move slots between groups while they serve
    Reshard(ReshardArgs),
    /// A whole local cluster, etcd included, until Ctrl-C
    Playground(PlaygroundArgs),
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// A group and its node, as 1=n1; may be given many times
    #[arg(long = "group", value_name = "ID=NODE", value_parser = parse_group)]
    pub groups: Vec<(GroupId, Vec<String>)>,
    /// Groups as a JSON file: [{"id": 1, "nodes": ["n1"]}, ...]
    #[arg(long, value_name = "FILE")]
    pub groups_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Admit a node; it may be started before or after
    Add {
        /// The node's --node-id
        id: String,
        /// Let it come back with a new data directory (its old one is lost)
        #[arg(long)]
        replace: bool,
        /// Wait until it is up, at most this many seconds
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Show all nodes
    List,
    /// Forget a stopped node that holds nothing
    Remove {
        /// The node's --node-id
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum GroupVerb {
    /// Create a group; move slots to it with `reshard`
    Create {
        /// Number, 1 and up
        #[arg(long)]
        id: GroupId,
        /// The node that holds it
        #[arg(long, value_delimiter = ',', required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Show all groups
    List,
    /// Forget a group that owns no slots
    Remove {
        /// Number
        id: GroupId,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ReshardArgs {
    #[command(subcommand)]
    pub action: Option<ReshardVerb>,
    /// Group that owns the slots
    #[arg(long, value_name = "GROUP")]
    pub from: Option<GroupId>,
    /// Group that shall own them
    #[arg(long, value_name = "GROUP")]
    pub to: Option<GroupId>,
    /// Which slots, as 0-8191,9000
    #[arg(long, value_name = "RANGES")]
    pub slots: Option<SlotSet>,
    /// Most bytes a second, as 100MB
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub max_rate: Option<u64>,
    /// Longest pause of these slots; the move gives up rather than exceed it
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse_duration)]
    pub max_pause: Duration,
    /// Most log that the source may keep for the move at one time: all writes while
    /// it copies, later those since the last checkpoint
    #[arg(long, value_name = "SIZE", default_value = "1GB", value_parser = parse_bytes)]
    pub migration_log_limit: u64,
    /// Show what it would take, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Order the move and return at once
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Subcommand)]
pub enum ReshardVerb {
    /// Show one plan, or all
    Status {
        /// Number of the plan
        plan: Option<PlanId>,
        /// Show progress until it ends
        #[arg(long, requires = "plan")]
        follow: bool,
    },
    /// Hold a plan at the next safe point
    Pause { plan: PlanId },
    /// Go on with a held plan
    Resume { plan: PlanId },
    /// Give a plan up, unless it was committed first
    Abort { plan: PlanId },
}

#[derive(Debug, Args)]
pub struct PlaygroundArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub nodes: u32,
    /// How many groups, spread over the nodes in turn
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=40))]
    pub groups: u32,
    /// Replicas of each group
    #[arg(long, default_value_t = 1)]
    pub replicas: u32,
    /// Port of the proxy; 0 chooses a free one
    #[arg(long, default_value_t = 6379)]
    pub proxy_port: u16,
    /// Where to keep everything; without it a temporary folder, deleted at the end
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
}

/// Reads `1=n1`.
fn parse_group(text: &str) -> Result<(GroupId, Vec<String>), String> {
    let wrong = || format!("`{text}` is no group: use ID=NODE, as 1=n1");
    let (id, nodes) = text.split_once('=').ok_or_else(wrong)?;
    let id = id.trim().parse().map_err(|_| wrong())?;
    let nodes: Vec<String> = nodes.split(',').map(|n| n.trim().to_owned()).collect();
    match nodes.iter().any(String::is_empty) {
        true => Err(wrong()),
        false => Ok((id, nodes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_lines_are_understood() {
        for line in [
            "cluster-admin --cluster c --etcd a:1,b:2 init --group 1=n1 --group 2=n2",
            "cluster-admin init --groups-file groups.json",
            "cluster-admin node add n1 --wait 30",
            "cluster-admin node list --json",
            "cluster-admin group create --id 3 --nodes n1",
            "cluster-admin --cluster c --etcd a reshard --from 1 --to 2 --slots 0-8191 --max-rate 100MB --max-pause 200ms --dry-run --yes",
            "cluster-admin --cluster c --etcd a reshard status 3 --follow --json",
            "cluster-admin reshard status",
            "cluster-admin reshard pause 3",
            "cluster-admin reshard resume 3",
            "cluster-admin reshard abort 3",
            "cluster-admin playground --nodes 3 --groups 2 --replicas 1 --proxy-port 6379 --data-dir d --json",
            "cluster-admin slots",
            "cluster-admin status --json",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn bad_values_are_named_on_the_command_line() {
        for (line, why) in [
            (
                "cluster-admin reshard --from 1 --to 2 --slots 5-3",
                "invalid slot range",
            ),
            (
                "cluster-admin reshard --from 1 --to 2 --slots 0 --max-rate fast",
                "is no size",
            ),
            (
                "cluster-admin reshard --from 1 --to 2 --slots 0 --max-pause 0",
                "between 1ms",
            ),
            ("cluster-admin init --group n1", "is no group"),
            ("cluster-admin playground --nodes 0", "0 is not in 1..=32"),
        ] {
            let error = Cli::try_parse_from(line.split(' '))
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
