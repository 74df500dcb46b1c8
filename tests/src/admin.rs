//! `cluster-admin` as a test runs it: to its end, or to be killed on the way.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value as Json;

use crate::process::Process;
use crate::{binaries, wait};

/// Which cluster, and through which etcd.
#[derive(Clone, Debug)]
pub struct Admin {
    pub cluster: String,
    pub etcd: String,
}

impl Admin {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries::cairn("cluster-admin"));
        command
            .args(["--cluster", &self.cluster, "--etcd", &self.etcd])
            .args(arguments);
        command
    }

    /// Runs a verb to its end, whatever that is.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .output()
            .expect("cluster-admin starts")
    }

    /// Runs a verb that must succeed; its standard output.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "cluster-admin {arguments:?}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Runs a verb with `--json`; the last line that it printed.
    pub fn json(&self, arguments: &[&str]) -> Json {
        let mut all = arguments.to_vec();
        all.push("--json");
        let text = self.run(&all);
        let line = text.trim();
        serde_json::from_str(line)
            .or_else(|_| serde_json::from_str(line.lines().last().unwrap_or_default()))
            .unwrap_or_else(|error| {
                panic!("cluster-admin {all:?} printed no JSON ({error}):\n{text}")
            })
    }

    /// Starts a verb and leaves it running.
    pub fn spawn(&self, arguments: &[&str], log: &Path) -> Process {
        Process::spawn("cluster-admin", self.command(arguments), log)
    }

    /// The newest state of a plan, as `reshard status --json` tells it.
    pub fn plan(&self, plan: &str) -> Plan {
        Plan::read(&self.json(&["reshard", "status", plan]))
    }

    /// All plans that are recorded; none when the tool cannot say (etcd
    /// restarting): callers poll.
    pub fn plans(&self) -> Vec<Plan> {
        let output = self.output(&["reshard", "status", "--json"]);
        let Ok(json) = serde_json::from_slice::<Json>(&output.stdout) else {
            return vec![];
        };
        let list = json
            .as_array()
            .cloned()
            .or_else(|| json["plans"].as_array().cloned());
        let list = list.unwrap_or_else(|| vec![json]);
        list.iter()
            .filter(|entry| !entry["plan"].is_null())
            .map(Plan::read)
            .collect()
    }

    /// The plan that is not ended yet, if there is one.
    pub fn open_plan(&self) -> Option<Plan> {
        self.plans().into_iter().find(|plan| !plan.ended())
    }

    /// The plan with the highest number.
    pub fn newest_plan(&self) -> Option<Plan> {
        self.plans()
            .into_iter()
            .max_by_key(|plan| plan.id.parse::<u64>().unwrap_or(0))
    }

    /// Waits for the end of a plan, which must be "done".
    pub fn wait_done(&self, plan: &str, limit: Duration) -> Plan {
        let ended = wait::until(&format!("the end of plan {plan}"), limit, || {
            let output = self.output(&["reshard", "status", plan, "--json"]);
            let json: Json = serde_json::from_slice(&output.stdout).ok()?;
            Some(Plan::read(&json)).filter(Plan::ended)
        });
        assert_eq!(ended.state, "done", "plan {plan}: {ended:?}");
        ended
    }
}

/// One line of `reshard status --json`.
#[derive(Clone, Debug)]
pub struct Plan {
    pub id: String,
    /// running, paused, done, aborted, failed
    pub state: String,
    /// full, increment, switch
    pub stage: String,
    pub bytes_done: u64,
    pub bytes_total: u64,
    /// How long commands waited in the switch, in milliseconds.
    pub pause_ms: Option<f64>,
    /// What the nodes say of it.
    pub message: String,
}

impl Plan {
    pub fn read(json: &Json) -> Plan {
        // A list of one, when the tool was asked for one plan.
        let json = json
            .as_array()
            .and_then(|list| list.first())
            .unwrap_or(json);
        let text = |name: &str| match &json[name] {
            Json::String(text) => text.clone(),
            Json::Null => String::new(),
            other => other.to_string(),
        };
        Plan {
            id: text("plan"),
            state: text("state"),
            stage: text("stage"),
            bytes_done: json["bytes_done"].as_u64().unwrap_or(0),
            bytes_total: json["bytes_total"].as_u64().unwrap_or(0),
            pause_ms: json["pause_ms"].as_f64(),
            message: text("message"),
        }
    }

    pub fn ended(&self) -> bool {
        matches!(self.state.as_str(), "done" | "aborted" | "failed")
    }
}
