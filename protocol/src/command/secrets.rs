//! Which arguments are secrets: neither MONITOR nor SLOWLOG shows them.

use super::{ArgList, CommandSpec, id};

/// Parameters of CONFIG SET whose values are secrets.
const PARAMETERS: [&str; 6] = [
    "cluster-secret",
    "masterauth",
    "masteruser",
    "requirepass",
    "tls-client-key-file-pass",
    "tls-key-file-pass",
];

/// Whether the value of a parameter is a secret.
pub fn is_secret_parameter(name: &[u8]) -> bool {
    let mut all = PARAMETERS.iter();
    all.any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
}

/// Positions of arguments that are never kept or shown: passwords.
pub fn secrets<A: ArgList + ?Sized>(spec: &CommandSpec, args: &A) -> Vec<usize> {
    let after = |word: &str, count: usize| -> Vec<usize> {
        let at = (1..args.len()).find(|i| args.get(*i).eq_ignore_ascii_case(word.as_bytes()));
        at.map_or_else(Vec::new, |at| (at + 1..=at + count).collect())
    };
    match spec.id {
        id::AUTH => (1..args.len()).collect(),
        id::HELLO => after("auth", 2),
        id::MIGRATE => match (after("auth2", 2), after("auth", 1)) {
            (none, one) if none.is_empty() => one,
            (two, _) => two,
        },
        id::ACL_SETUSER => (2..args.len()).collect(),
        id::CONFIG_SET => (2..args.len())
            .step_by(2)
            .filter(|i| is_secret_parameter(args.get(*i)))
            .map(|i| i + 1)
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Resolved, resolve};
    use super::*;
    use crate::resp::Requests;

    fn hidden(words: &[&str]) -> Vec<usize> {
        let mut requests = Requests::default();
        requests.push_owned(words);
        let args = requests.get(0);
        let Resolved::Command(spec) = resolve(&args) else {
            panic!("{words:?} is no command");
        };
        secrets(spec, &args)
    }

    #[test]
    fn passwords_are_found_where_they_stand() {
        assert_eq!(hidden(&["get", "auth"]), [0; 0]);
        assert_eq!(hidden(&["auth", "me", "secret"]), [1, 2]);
        let hello = ["hello", "3", "AUTH", "me", "secret", "setname", "n"];
        assert_eq!(hidden(&hello), [3, 4]);
        let config = ["config", "set", "save", "", "MasterAuth", "x", "hz", "1"];
        assert_eq!(hidden(&config), [5]);
        assert_eq!(hidden(&["acl", "setuser", "me", ">pw", "on"]), [2, 3, 4]);
        let migrate = ["migrate", "h", "1", "k", "0", "9", "AUTH2", "me", "pw"];
        assert_eq!(hidden(&migrate), [7, 8]);
    }
}
