//! All users of a process, and what happened to be refused to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::DEFAULT_USER;
use super::file::{self, Users};
use super::log::{AclLog, Context, LogEntry};
use super::subject::{self, Describe};
use super::user::{Defaults, User};

/// `acllog-max-len` by default.
const LOG_LEN: usize = 128;

/// A user that clients may be logged in as. Its rules change under them.
pub struct Account {
    name: Vec<u8>,
    /// Everything is allowed: the one thing that each command asks.
    unrestricted: AtomicBool,
    user: ArcSwap<User>,
}

impl Account {
    fn new(user: User) -> Arc<Account> {
        Arc::new(Account {
            name: user.name.clone(),
            unrestricted: AtomicBool::new(user.is_unrestricted()),
            user: ArcSwap::from_pointee(user),
        })
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether no request need be looked at.
    #[inline]
    pub fn is_unrestricted(&self) -> bool {
        self.unrestricted.load(Ordering::Acquire)
    }

    /// Somebody whom nothing is allowed, for a name that no user has.
    pub fn nobody(name: &[u8]) -> Arc<Account> {
        Account::new(User::new(name, Defaults::default()))
    }

    /// The rules as they are now.
    pub fn user(&self) -> Arc<User> {
        self.user.load_full()
    }

    fn set(&self, user: User) {
        let unrestricted = user.is_unrestricted();
        // Whoever finds it restricted finds the rules that say so.
        if unrestricted {
            self.user.store(Arc::new(user));
            self.unrestricted.store(true, Ordering::Release);
        } else {
            self.unrestricted.store(false, Ordering::Release);
            self.user.store(Arc::new(user));
        }
    }
}

/// A change of a user's rules that took channels away.
pub struct Revoked {
    pub account: Arc<Account>,
    /// The rules after the change.
    pub user: Arc<User>,
}

/// What a change of all users came to.
#[derive(Default)]
pub struct Changes {
    /// Users that are no more.
    pub gone: Vec<Arc<Account>>,
    pub revoked: Vec<Revoked>,
}

/// See the module's documentation.
pub struct Registry {
    /// Held for reading while somebody logs in, for writing while users change.
    users: RwLock<BTreeMap<Vec<u8>, Arc<Account>>>,
    default: Arc<Account>,
    /// Guards a short list, taken only for refusals.
    log: Mutex<AclLog>,
    log_len: AtomicUsize,
    /// `acl-pubsub-default allchannels`.
    all_channels: AtomicBool,
    /// Who may come in is not known yet: nobody may.
    awaited: AtomicBool,
}

impl Default for Registry {
    fn default() -> Registry {
        let default = Account::new(User::default_user());
        Registry {
            users: RwLock::new(BTreeMap::from([(DEFAULT_USER.to_vec(), default.clone())])),
            default,
            log: Mutex::default(),
            log_len: AtomicUsize::new(LOG_LEN),
            all_channels: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
        }
    }
}

impl Registry {
    /// What new users begin with.
    pub fn defaults(&self) -> Defaults {
        Defaults {
            all_channels: self.all_channels.load(Ordering::Relaxed),
        }
    }

    /// `acl-pubsub-default` and `acllog-max-len`.
    pub fn follow(&self, all_channels: bool, log_len: usize) {
        self.all_channels.store(all_channels, Ordering::Relaxed);
        self.log_len.store(log_len, Ordering::Relaxed);
    }

    /// The user that connections begin as. It is never deleted.
    pub fn default_user(&self) -> &Arc<Account> {
        &self.default
    }

    /// `requirepass`: the one password of the default user, or none.
    pub fn set_default_password(&self, password: Option<&[u8]>) {
        let _users = self.users.write();
        let mut user = (*self.default.user()).clone();
        user.set_password(password);
        self.default.set(user);
    }

    /// Lets nobody in until it is known who the users are.
    pub fn set_awaited(&self, awaited: bool) {
        self.awaited.store(awaited, Ordering::Release);
    }

    /// Whether connections begin logged in.
    pub fn is_open(&self) -> bool {
        let user = self.default.user.load();
        user.no_password && user.enabled && !self.awaited.load(Ordering::Acquire)
    }

    /// Whether the default user needs no password, switched on or not.
    pub fn default_has_no_password(&self) -> bool {
        self.default.user.load().no_password
    }

    pub fn find(&self, name: &[u8]) -> Option<Arc<Account>> {
        self.users.read().get(name).cloned()
    }

    /// All users, by name.
    pub fn all(&self) -> Vec<Arc<Account>> {
        self.users.read().values().cloned().collect()
    }

    /// Logs somebody in: `enter` is called before the user can be deleted.
    /// False, and noted in the log: no such user, or not with this password.
    pub fn log_in(&self, name: &[u8], password: &[u8], enter: impl FnOnce(&Arc<Account>)) -> bool {
        let users = self.users.read();
        let account = users.get(name);
        let account = account.filter(|_| !self.awaited.load(Ordering::Acquire));
        let Some(account) = account.filter(|account| account.user.load().lets_in(password)) else {
            return false;
        };
        enter(account);
        true
    }

    /// Notes that `client` could not log in as `name`; `object` is the command.
    pub fn note_failed_login(
        &self,
        client: &dyn Describe,
        context: Context,
        object: &[u8],
        name: &[u8],
    ) {
        subject::note(self, client, "auth", context, object, name);
    }

    /// ACL SETUSER: all rules or none. What is given back has lost channels.
    ///
    /// # Errors
    /// What is wrong with a rule, as Redis says it.
    pub fn set<W: AsRef<[u8]>>(&self, name: &[u8], rules: &[W]) -> Result<Option<Revoked>, String> {
        let defaults = self.defaults();
        let mut users = self.users.write();
        let Some(account) = users.get(name) else {
            let mut user = User::new(name, defaults);
            user.apply_all(rules, defaults)?;
            users.insert(name.to_vec(), Account::new(user));
            return Ok(None);
        };
        let old = account.user();
        let mut user = (*old).clone();
        user.apply_all(rules, defaults)?;
        let lost = !user.keeps_channels_of(&old);
        account.set(user);
        Ok(lost.then(|| Revoked {
            account: account.clone(),
            user: account.user(),
        }))
    }

    /// A user of the configuration; the default one is not changed but made anew.
    ///
    /// # Errors
    /// The rule that is wrong, and what is wrong with it.
    pub fn declare<W: AsRef<[u8]>>(&self, name: &[u8], rules: &[W]) -> Result<(), String> {
        let defaults = self.defaults();
        let mut user = User::new(name, defaults);
        user.apply_all(rules, defaults)?;
        if !user.enabled {
            tracing::info!(
                user = %String::from_utf8_lossy(name),
                "a user is disabled: there is no `on` in its description"
            );
        }
        let mut users = self.users.write();
        match users.get(name) {
            Some(known) => known.set(user),
            None => {
                users.insert(name.to_vec(), Account::new(user));
            }
        }
        Ok(())
    }

    /// ACL DELUSER: the user that is gone.
    pub fn delete(&self, name: &[u8]) -> Option<Arc<Account>> {
        match name == DEFAULT_USER {
            true => None,
            false => self.users.write().remove(name),
        }
    }

    /// ACL LOAD: takes the users of a file's text in place of all there are.
    /// Gives back those that are gone: all but the default one, which is changed.
    ///
    /// # Errors
    /// Everything that is wrong; nothing has changed then.
    pub fn load(&self, text: &[u8], file: &str) -> Result<Vec<Arc<Account>>, String> {
        let mut read = file::load(text, file, self.defaults())?;
        let default = read.remove(DEFAULT_USER);
        let mut users = self.users.write();
        self.default.set(default.unwrap_or_else(User::default_user));
        let fresh = read
            .into_iter()
            .map(|(name, user)| (name, Account::new(user)));
        let mut fresh: BTreeMap<Vec<u8>, Arc<Account>> = fresh.collect();
        fresh.insert(DEFAULT_USER.to_vec(), self.default.clone());
        let mut old = std::mem::replace(&mut *users, fresh);
        old.remove(DEFAULT_USER);
        Ok(old.into_values().collect())
    }

    /// Takes `fresh` in place of all users there are. Whoever is logged in as one
    /// that stays goes on under its new rules. The default user is changed only
    /// if it is named.
    pub(super) fn take(&self, fresh: Users) -> Changes {
        let mut changes = Changes::default();
        let mut users = self.users.write();
        users.retain(|name, account| {
            let stays = name == DEFAULT_USER || fresh.contains_key(name);
            if !stays {
                changes.gone.push(account.clone());
            }
            stays
        });
        for (name, user) in fresh {
            let Some(account) = users.get(&name) else {
                users.insert(name, Account::new(user));
                continue;
            };
            let old = account.user();
            if *old == user {
                continue;
            }
            let lost = !user.keeps_channels_of(&old);
            account.set(user);
            changes.revoked.extend(lost.then(|| Revoked {
                account: account.clone(),
                user: account.user(),
            }));
        }
        changes
    }

    // The log.

    pub(super) fn note(&self, entry: LogEntry) {
        let most = self.log_len.load(Ordering::Relaxed);
        self.log.lock().note(entry, most);
    }

    pub fn clear_log(&self) {
        self.log.lock().clear();
    }

    /// The newest entries of the log.
    pub fn newest_refusals(&self, count: usize) -> Vec<LogEntry> {
        self.log.lock().newest(count).cloned().collect()
    }
}
