//! The users of a cluster: etcd has them, every node and every proxy follows.
//!
//! All are one record, which a change compares and replaces as a whole, so that
//! two at once are one after the other. Until somebody sets a user there is no
//! record, and each program has the default user of its own configuration; that
//! user stays so until a change names it.
//!
//! Knows nothing of connections: what a change means for those of this program
//! is given back as [`Changes`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::DEFAULT_USER;
use super::file::{self, Users};
use super::registry::{Changes, Registry};
use super::rules::has_space_or_nul;
use super::user::{Defaults, User};
use crate::command::{CommandId, id};
use crate::resp::Args;
use crate::topology::{StoreError, TopologyStore, UsersRecord, Versioned, since};

/// Bytes of a name: links between programs carry no longer ones.
const MAX_NAME: usize = 255;
/// What messages call the record.
const RECORD: &str = "settings/users";

/// What is to become of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// ACL SETUSER: all rules or none.
    Set { name: Vec<u8>, rules: Vec<Vec<u8>> },
    /// ACL DELUSER.
    Delete { names: Vec<Vec<u8>> },
}

/// Why the password of a program's own default user cannot be changed.
pub const DEFAULT_IS_THE_CLUSTERS: &str =
    "the default user is the cluster's: use ACL SETUSER default";

/// See the module's documentation.
pub struct ClusterUsers {
    registry: Arc<Registry>,
    /// The revision of the record in use; 0 before there is one. Held while a
    /// record is taken in, so that none comes behind a later one.
    revision: Mutex<i64>,
    /// The same, to be waited for.
    taken_in: watch::Sender<i64>,
    /// The record in use names the default user.
    has_default: AtomicBool,
}

impl ClusterUsers {
    pub fn new(registry: Arc<Registry>) -> ClusterUsers {
        ClusterUsers {
            registry,
            revision: Mutex::new(0),
            taken_in: watch::channel(0).0,
            has_default: AtomicBool::new(false),
        }
    }

    /// Uses the users of a record, unless later ones are in use.
    pub fn take_in(&self, record: &Versioned<UsersRecord>) -> Changes {
        let mut revision = self.revision.lock();
        if record.mod_revision <= *revision {
            return Changes::default();
        }
        let changes = match read(&record.value, self.registry.defaults()) {
            Ok(users) => {
                let named = users.contains_key(DEFAULT_USER);
                self.has_default.store(named, Ordering::Relaxed);
                self.registry.take(users)
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "the cluster's users cannot be read: those before stay"
                );
                Changes::default()
            }
        };
        *revision = record.mod_revision;
        self.taken_in.send_replace(record.mod_revision);
        changes
    }

    /// Whether the default user is the cluster's, not this program's own.
    pub fn names_the_default(&self) -> bool {
        self.has_default.load(Ordering::Relaxed)
    }

    /// The revision of the users in use.
    pub fn revision(&self) -> i64 {
        *self.taken_in.borrow()
    }

    /// Waits until users of `revision` or later are in use.
    pub async fn reached(&self, revision: i64) {
        let mut taken_in = self.taken_in.subscribe();
        // The sender lives as long as `self`.
        let _ = taken_in.wait_for(|at| *at >= revision).await;
    }

    /// Takes in what etcd has now.
    ///
    /// # Errors
    /// The error line: etcd did not answer.
    pub async fn refresh(&self, store: &TopologyStore) -> Result<Changes, String> {
        match store.users().await {
            Ok(Some(record)) => Ok(self.take_in(&record)),
            Ok(None) => Ok(Changes::default()),
            Err(error) => Err(format!("ERR the users cannot be read: {}", reason(&error))),
        }
    }

    /// Changes the users in etcd, and here. How many there were to change.
    ///
    /// # Errors
    /// The error line: Redis's for a rule that is wrong, or that etcd did not
    /// take the change, or may have.
    pub async fn change(
        &self,
        store: &TopologyStore,
        change: &Change,
    ) -> Result<(usize, Changes), String> {
        store
            .require_version(since::USERS)
            .await
            .map_err(|e| not_begun(&e))?;
        loop {
            let record = store.users().await.map_err(|e| not_begun(&e))?;
            let base = record.as_ref().map(|record| record.mod_revision);
            let old = record.as_ref().map(|record| record.value.clone());
            let old = old.unwrap_or_default();
            let defaults = self.registry.defaults();
            let mut users = read(&old, defaults).map_err(|why| format!("ERR {why}"))?;
            let default = self.registry.default_user().user();
            let count = change.apply(&mut users, &default, defaults)?;
            let new = record_of(&users, defaults)?;
            if new == old {
                // Others may have done it, which is known here then.
                let changes = record.map(|record| self.take_in(&record));
                return Ok((count, changes.unwrap_or_default()));
            }
            // Others may have been first: then what they did is looked at.
            let changed = store.change_users(base, new).await;
            if let Some(new) = changed.map_err(|e| not_changed(&e))? {
                return Ok((count, self.take_in(&new)));
            }
        }
    }
}

/// Before etcd was asked for a change: nothing was changed.
fn not_begun(error: &StoreError) -> String {
    let why = reason(error);
    format!("ERR the users could not be saved: {why}")
}

fn not_changed(error: &StoreError) -> String {
    match error.is_definite() {
        true => not_begun(error),
        false => format!(
            "UNKNOWN whether the users were saved is not known: {}",
            reason(error)
        ),
    }
}

fn reason(error: &StoreError) -> String {
    let why = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    why.replace(['\r', '\n'], " ")
}

fn read(record: &UsersRecord, defaults: Defaults) -> Result<Users, String> {
    let text = record
        .text()
        .ok_or("it holds characters that are no bytes")?;
    file::load(&text, RECORD, defaults)
}

/// The record that is read as these users.
///
/// # Errors
/// The error line: it would be read as others, or not at all, and then nobody could
/// change the users any more.
fn record_of(users: &Users, defaults: Defaults) -> Result<UsersRecord, String> {
    let lines: Vec<Vec<u8>> = users.values().map(User::line).collect();
    let record = UsersRecord::new(&lines);
    match read(&record, defaults).as_ref() == Ok(users) {
        true => Ok(record),
        false => Err("ERR a rule with a space or a line's end in it cannot be kept".into()),
    }
}

impl Change {
    /// What ACL SETUSER or ACL DELUSER asks for.
    ///
    /// # Errors
    /// Redis's line.
    pub fn read(command: CommandId, args: &Args<'_>) -> Result<Change, &'static str> {
        let words = |from| args.iter().skip(from).map(<[u8]>::to_vec).collect();
        if command == id::ACL_DELUSER {
            let names: Vec<Vec<u8>> = words(2);
            return match names.iter().any(|name| name == DEFAULT_USER) {
                true => Err("ERR The 'default' user cannot be removed"),
                false => Ok(Change::Delete { names }),
            };
        }
        match has_space_or_nul(args.get(2)) {
            true => Err("ERR Usernames can't contain spaces or null characters"),
            false => Ok(Change::Set {
                name: args.get(2).to_vec(),
                rules: words(3),
            }),
        }
    }

    /// Makes the change. How many users there were to change; `default` is the
    /// default user of this program, if `users` have none yet.
    ///
    /// # Errors
    /// The error line.
    fn apply(
        &self,
        users: &mut Users,
        default: &User,
        defaults: Defaults,
    ) -> Result<usize, String> {
        match self {
            Change::Set { name, rules } => {
                if name.len() > MAX_NAME {
                    return Err(format!(
                        "ERR the name of a cluster's user has at most {MAX_NAME} bytes"
                    ));
                }
                let old = users.get(name);
                let mut user = match name == DEFAULT_USER {
                    true => old.unwrap_or(default).clone(),
                    false => old.cloned().unwrap_or_else(|| User::new(name, defaults)),
                };
                let applied = user.apply_all(rules, defaults);
                applied.map_err(|why| format!("ERR {}", why.replace(['\r', '\n'], " ")))?;
                users.insert(name.clone(), user);
                Ok(1)
            }
            Change::Delete { names } => {
                let gone = names.iter().filter(|name| users.remove(*name).is_some());
                Ok(gone.count())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::StoreConfig;

    fn record(revision: i64, lines: &[&str]) -> Versioned<UsersRecord> {
        let lines: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        Versioned {
            value: UsersRecord::new(&lines),
            mod_revision: revision,
        }
    }

    fn names(registry: &Registry) -> Vec<String> {
        let all = registry.all();
        let name = |account: &Arc<super::super::Account>| {
            String::from_utf8_lossy(account.name()).into_owned()
        };
        all.iter().map(name).collect()
    }

    #[test]
    fn a_record_takes_the_place_of_all_users_but_the_default_one() {
        let registry = Arc::new(Registry::default());
        registry.set_default_password(Some(b"own"));
        let users = ClusterUsers::new(registry.clone());
        users.take_in(&record(
            5,
            &["user ann on nopass ~* &* +@all", "user bob off -@all"],
        ));
        assert_eq!(names(&registry), ["ann", "bob", "default"]);
        assert!(!registry.is_open(), "its own password holds");

        let ann = registry.find(b"ann").unwrap();
        let changes = users.take_in(&record(6, &["user ann on nopass ~* resetchannels +@all"]));
        assert_eq!(changes.gone.len(), 1, "bob");
        assert_eq!(changes.revoked.len(), 1, "ann has lost channels");
        assert!(Arc::ptr_eq(&ann, &registry.find(b"ann").unwrap()));
        assert_eq!(names(&registry), ["ann", "default"]);

        users.take_in(&record(7, &["user default on nopass ~* &* +@all"]));
        assert!(registry.is_open(), "the cluster's default user");
        assert_eq!(users.revision(), 7);
    }

    #[test]
    fn an_older_record_changes_nothing() {
        let registry = Arc::new(Registry::default());
        let users = ClusterUsers::new(registry.clone());
        users.take_in(&record(6, &["user ann on -@all"]));
        users.take_in(&record(5, &[]));
        assert_eq!(names(&registry), ["ann", "default"]);
    }

    #[test]
    fn a_record_that_cannot_be_read_changes_nothing() {
        let registry = Arc::new(Registry::default());
        let users = ClusterUsers::new(registry.clone());
        users.take_in(&record(5, &["user ann on -@all"]));
        users.take_in(&record(6, &["user bob nonsense"]));
        assert_eq!(names(&registry), ["ann", "default"]);
    }

    fn change(users: &mut Users, name: &[u8], rules: &[&[u8]]) -> Result<usize, String> {
        let change = Change::Set {
            name: name.to_vec(),
            rules: rules.iter().map(|rule| rule.to_vec()).collect(),
        };
        change.apply(users, &User::default_user(), Defaults::default())
    }

    #[test]
    fn what_is_written_is_read_as_the_same_users() {
        let mut users = Users::new();
        let rules: [&[u8]; 6] = [b"on", b">x", b"~a*", b"+@read", b"(+set", b"~b)"];
        change(&mut users, b"\xff", &rules).unwrap();
        change(&mut users, b"default", &[b"off"]).unwrap();
        assert!(!users[DEFAULT_USER].enabled && users[DEFAULT_USER].is_unrestricted());
        let record = record_of(&users, Defaults::default()).unwrap();
        assert_eq!(read(&record, Defaults::default()), Ok(users.clone()));

        let wrong = change(&mut users, b"x", &[b"on", b"nonsense"]).unwrap_err();
        assert!(wrong.starts_with("ERR Error in ACL SETUSER modifier 'nonsense'"));
        assert!(!users.contains_key(&b"x"[..]), "all rules or none");
        assert!(change(&mut users, &[b'x'; 256], &[]).is_err());
        let names = vec![b"\xff".to_vec(), b"none".to_vec()];
        let gone = Change::Delete { names };
        let gone = gone.apply(&mut users, &User::default_user(), Defaults::default());
        assert_eq!(gone, Ok(1));
    }

    /// A line's end makes a record that nobody can read, and so nobody can change any
    /// more; a space makes one that gives rights which nobody was given.
    #[test]
    fn a_rule_that_would_be_read_as_another_is_not_written() {
        let rules: [&[u8]; 4] = [
            b"+select|1\n2",
            b"+select|1 +@all",
            b"+select|1\nuser eve on nopass +@all",
            b"+select|\xff",
        ];
        for rule in rules {
            let mut users = Users::new();
            // The rule itself is one that a server alone takes.
            change(&mut users, b"ann", &[rule]).unwrap();
            let refused = record_of(&users, Defaults::default());
            assert_eq!(
                refused,
                Err("ERR a rule with a space or a line's end in it cannot be kept".into()),
                "{}",
                rule.escape_ascii()
            );
        }
    }

    /// Regression: with etcd away before it was asked for anything the outcome was
    /// said to be unknown.
    #[tokio::test]
    async fn without_etcd_a_change_is_definitely_not_made() {
        // Nobody listens there, and nobody is ever given that port.
        let store = TopologyStore::connect(StoreConfig::new("c1", "127.0.0.1:1"))
            .await
            .unwrap();
        let users = ClusterUsers::new(Arc::default());
        let names = vec![b"ann".to_vec()];
        let change = users.change(&store, &Change::Delete { names }).await;
        let line = change.err().unwrap();
        assert!(
            line.starts_with("ERR the users could not be saved"),
            "{line}"
        );
        let line = users.refresh(&store).await.err().unwrap();
        assert!(line.starts_with("ERR the users cannot be read"), "{line}");
    }
}
