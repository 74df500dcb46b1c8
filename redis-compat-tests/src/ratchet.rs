//! What is expected of each unit: the tests that fail, each with its reason.
//!
//! A test that fails and is not listed fails the run; so does a listed one that
//! passes, and a unit in which fewer tests run than before. `CAIRN_RATCHET=write`
//! writes the file anew and keeps the reasons that are there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::unit::Outcome;

/// Said of a failure that nobody has looked at.
const UNEXPLAINED: &str = "not explained yet";

/// One file in `expected/`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Expected {
    /// By unit, as `unit/type/hash`.
    pub units: BTreeMap<String, Unit>,
}

/// What one unit comes to.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Tests that pass.
    pub passed: usize,
    /// Tests that pass with redis-server in the same place.
    pub redis: usize,
    /// Why the unit is not run at all, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// Tests that never end, each of them a failing one: they are not begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hanging: Vec<String>,
    /// Why the unit ends before its end, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborts: Option<String>,
    /// Test -> why it fails.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failing: BTreeMap<String, String>,
}

impl Expected {
    pub fn read(path: &Path) -> Result<Expected> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, toml::to_string(self)?).with_context(|| path.display().to_string())
    }
}

impl Unit {
    /// The same unit as it came out now; reasons are kept.
    pub fn renewed(&self, outcome: &Outcome) -> Unit {
        let why = |name: &String| {
            let known = self.failing.get(name).cloned();
            (name.clone(), known.unwrap_or_else(|| UNEXPLAINED.into()))
        };
        Unit {
            passed: outcome.passed.len(),
            redis: self.redis,
            left_out: None,
            hanging: outcome.hanging.clone(),
            aborts: outcome
                .aborted
                .as_ref()
                .map(|_| self.aborts.clone().unwrap_or_else(|| UNEXPLAINED.into())),
            failing: outcome.failed.iter().map(|(name, _)| why(name)).collect(),
        }
    }

    /// Everything in which a run differs from this, a line each. Of `again`, a
    /// second run, it must differ as well: a machine with other work to do makes
    /// single tests late, not twice the same.
    pub fn differences(&self, outcome: &Outcome, again: Option<&Outcome>) -> Vec<String> {
        let mut found = self.differences_of(outcome);
        if let Some(again) = again {
            let name = |line: &String| line.splitn(3, ": ").take(2).collect::<Vec<_>>().join(": ");
            let second: Vec<String> = self.differences_of(again).iter().map(name).collect();
            found.retain(|line| second.contains(&name(line)));
        }
        found
    }

    fn differences_of(&self, outcome: &Outcome) -> Vec<String> {
        let mut found = Vec::new();
        for (name, said) in &outcome.failed {
            if !self.failing.contains_key(name) {
                found.push(format!("fails: {name}: {said}"));
            }
        }
        // The suite has tests of one name; one that fails among them is enough.
        let fails = |name: &String| outcome.failed.iter().any(|(failed, _)| failed == name);
        for name in self.failing.keys() {
            if outcome.passed.contains(name) && !fails(name) {
                found.push(format!("passes and is still listed: {name}"));
            }
        }
        if let (None, Some(why)) = (&self.aborts, &outcome.aborted) {
            found.push(format!("ends early: {why}"));
        }
        if outcome.passed.len() < self.passed {
            let (now, before) = (outcome.passed.len(), self.passed);
            found.push(format!("fewer tests pass: {now}, it were {before}"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: &[&str], failed: &[&str]) -> Outcome {
        Outcome {
            passed: passed.iter().map(|s| s.to_string()).collect(),
            failed: failed
                .iter()
                .map(|s| (s.to_string(), String::new()))
                .collect(),
            ..Outcome::default()
        }
    }

    #[test]
    fn a_new_failure_a_forgotten_success_and_a_lost_test_are_differences() {
        let unit = Unit {
            passed: 2,
            failing: BTreeMap::from([("c".to_owned(), "why".to_owned())]),
            ..Unit::default()
        };
        let found = |passed: &[&str], failed: &[&str]| {
            unit.differences(&outcome(passed, failed), None).len()
        };
        assert_eq!(found(&["a", "b"], &["c"]), 0);
        assert_eq!(found(&["a", "b"], &["c", "d"]), 1);
        assert_eq!(found(&["a", "c"], &[]), 1);
        assert_eq!(found(&["a"], &["c"]), 1);
    }

    #[test]
    fn only_what_differs_twice_is_a_difference() {
        let unit = Unit::default();
        let (bad, good) = (outcome(&[], &["a"]), outcome(&["a"], &[]));
        assert_eq!(unit.differences(&bad, Some(&good)).len(), 0);
        assert_eq!(unit.differences(&bad, Some(&bad)).len(), 1);
    }

    #[test]
    fn reasons_outlive_a_renewal() {
        let unit = Unit {
            failing: BTreeMap::from([("c".to_owned(), "why".to_owned())]),
            ..Unit::default()
        };
        let renewed = unit.renewed(&outcome(&["a"], &["c", "d"]));
        assert_eq!(renewed.failing["c"], "why");
        assert_eq!(renewed.failing["d"], UNEXPLAINED);
    }
}
