//! A user: on or off, passwords, selectors.

use bytes::BytesMut;
use sha2::{Digest, Sha256};

use super::rules::{RuleError, merge_selectors};
use super::selector::{Denied, Selector};
use crate::command::CommandSpec;
use crate::resp::{Args, Limits, RequestParser, Requests};

/// Hexadecimal digits of a hashed password.
const HASH_LEN: usize = 64;

/// What new users begin with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Defaults {
    /// `acl-pubsub-default allchannels`.
    pub all_channels: bool,
}

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: Vec<u8>,
    pub enabled: bool,
    pub no_password: bool,
    /// `sanitize-payload` or `skip-sanitize-payload` was said.
    sanitize: Option<bool>,
    /// SHA-256 in lower-case hexadecimal digits.
    passwords: Vec<String>,
    /// The root selector, then those in parentheses.
    selectors: Vec<Selector>,
    /// Everything is allowed: the common case is decided without a look.
    unrestricted: bool,
}

impl User {
    /// A new user: off, without password and permissions.
    pub fn new(name: &[u8], defaults: Defaults) -> User {
        User {
            name: name.to_vec(),
            enabled: false,
            no_password: false,
            sanitize: None,
            passwords: Vec::new(),
            selectors: vec![Selector::new(defaults.all_channels)],
            unrestricted: false,
        }
    }

    /// The user that connections begin as: may do everything without a password.
    pub fn default_user() -> User {
        let mut user = User::new(super::DEFAULT_USER, Defaults::default());
        for rule in ["on", "nopass", "~*", "&*", "+@all"] {
            user.apply(rule.as_bytes(), Defaults::default())
                .expect("these rules are valid");
        }
        user
    }

    /// Applies one rule, as ACL SETUSER takes it.
    ///
    /// # Errors
    /// What is wrong with the rule; nothing has changed then.
    pub fn apply(&mut self, rule: &[u8], defaults: Defaults) -> Result<(), RuleError> {
        let done = self.apply_rule(rule, defaults);
        self.unrestricted = self.selectors.iter().any(Selector::allows_everything);
        done
    }

    fn apply_rule(&mut self, rule: &[u8], defaults: Defaults) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"" => {}
            b"on" => self.enabled = true,
            b"off" => self.enabled = false,
            b"skip-sanitize-payload" => self.sanitize = Some(false),
            b"sanitize-payload" => self.sanitize = Some(true),
            b"nopass" => {
                self.no_password = true;
                self.passwords.clear();
            }
            b"resetpass" => {
                self.no_password = false;
                self.passwords.clear();
            }
            b"clearselectors" => self.selectors.truncate(1),
            b"reset" => {
                let name = std::mem::take(&mut self.name);
                *self = User::new(&name, defaults);
                self.sanitize = Some(true);
            }
            _ => return self.apply_other(rule, defaults),
        }
        Ok(())
    }

    fn apply_other(&mut self, rule: &[u8], defaults: Defaults) -> Result<(), RuleError> {
        match (rule[0], rule.last()) {
            (b'>', _) => self.add_password(hashed(&rule[1..])),
            (b'#', _) => self.add_password(given_hash(&rule[1..])?),
            (b'<', _) => return self.remove_password(&hashed(&rule[1..])),
            (b'!', _) => return self.remove_password(&given_hash(&rule[1..])?),
            (b'(', Some(b')')) => {
                let mut selector = Selector::new(defaults.all_channels);
                for word in split_words(&rule[1..rule.len() - 1]) {
                    selector.apply(&word)?;
                }
                self.selectors.push(selector);
            }
            _ => return self.selectors[0].apply(rule),
        }
        Ok(())
    }

    fn add_password(&mut self, hash: String) {
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
        self.no_password = false;
    }

    fn remove_password(&mut self, hash: &str) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == hash);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// Applies the words of ACL SETUSER, parentheses joined, all or none.
    ///
    /// # Errors
    /// Redis's text: the word that was not taken, and why.
    pub fn apply_all<W: AsRef<[u8]>>(
        &mut self,
        words: &[W],
        defaults: Defaults,
    ) -> Result<(), String> {
        let merged = merge_selectors(words).map_err(|at| {
            let word = String::from_utf8_lossy(words[at].as_ref());
            format!("Unmatched parenthesis in acl selector starting at '{word}'.")
        })?;
        let mut changed = self.clone();
        for word in merged {
            changed.apply(&word, defaults).map_err(|error| {
                let word = String::from_utf8_lossy(&word);
                format!("Error in ACL SETUSER modifier '{word}': {error}")
            })?;
        }
        *self = changed;
        Ok(())
    }

    /// Makes `password` the only one, or none necessary.
    pub fn set_password(&mut self, password: Option<&[u8]>) {
        self.passwords.clear();
        self.no_password = password.is_none();
        self.passwords.extend(password.map(hashed));
    }

    /// Whether nothing needs to be looked at: everything is allowed.
    pub fn is_unrestricted(&self) -> bool {
        self.unrestricted
    }

    /// Whether somebody may log in with this password.
    pub fn lets_in(&self, password: &[u8]) -> bool {
        self.enabled && self.accepts(password)
    }

    /// Whether this password lets somebody in. Takes the same time for all.
    pub fn accepts(&self, password: &[u8]) -> bool {
        if self.no_password {
            return true;
        }
        let given = hashed(password);
        self.passwords.iter().fold(false, |found, known| {
            let difference = known
                .bytes()
                .zip(given.bytes())
                .fold(0, |d, (a, b)| d | (a ^ b));
            found | (difference == 0)
        })
    }

    /// Whether the user may run a request.
    ///
    /// # Errors
    /// The closest that a selector came to allowing it.
    pub fn check(&self, spec: &CommandSpec, args: &Args<'_>) -> Result<(), Denied> {
        if self.unrestricted {
            return Ok(());
        }
        let mut closest = Denied::Command;
        for selector in &self.selectors {
            match selector.check(spec, args) {
                Ok(()) => return Ok(()),
                Err(denied) => closest = closest.max(denied),
            }
        }
        Err(closest)
    }

    /// Whether one selector allows a request and lets it read whatever key.
    pub fn may_read_all(&self, spec: &CommandSpec, args: &Args<'_>) -> bool {
        self.unrestricted
            || self
                .selectors
                .iter()
                .any(|selector| selector.reads_all_keys() && selector.check(spec, args).is_ok())
    }

    /// Whether every channel of `old` is one of this user's, as it stands:
    /// subscriptions need not be looked at then.
    pub fn keeps_channels_of(&self, old: &User) -> bool {
        let mine: Option<Vec<&[Vec<u8>]>> = self.selectors.iter().map(Selector::channels).collect();
        let Some(mine) = mine else {
            return true;
        };
        let has = |channel: &Vec<u8>| mine.iter().any(|some| some.contains(channel));
        old.selectors
            .iter()
            .all(|selector| match selector.channels() {
                None => false,
                Some(channels) => channels.iter().all(has),
            })
    }

    /// Whether some selector lets the user listen to a channel.
    pub fn may_listen(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors
            .iter()
            .any(|selector| selector.allows_channel(channel, is_pattern))
    }

    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        flags.extend(self.no_password.then_some("nopass"));
        flags.extend(self.sanitize.map(|sanitize| match sanitize {
            true => "sanitize-payload",
            false => "skip-sanitize-payload",
        }));
        flags
    }

    pub fn passwords(&self) -> &[String] {
        &self.passwords
    }

    /// The root selector first.
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// The user as a line of a file: `user NAME rules...`.
    pub fn line(&self) -> Vec<u8> {
        [b"user ", &self.name[..], b" ", &self.describe()].concat()
    }

    /// The rules that make this user, as in a configuration file.
    pub fn describe(&self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = self.flags().iter().map(|f| f.as_bytes().to_vec()).collect();
        words.extend(self.passwords.iter().map(|p| format!("#{p}").into_bytes()));
        for (at, selector) in self.selectors.iter().enumerate() {
            words.push(match at {
                0 => selector.describe(),
                _ => [b"(", &selector.describe()[..], b")"].concat(),
            });
        }
        words.join(&b' ')
    }
}

/// Words parted by blanks, perhaps in quotes. None at all if a quote is not closed.
fn split_words(text: &[u8]) -> Vec<Vec<u8>> {
    // An inline request is such a line; the blank keeps a `*` from being a header.
    let mut input = BytesMut::with_capacity(text.len() + 2);
    input.extend_from_slice(b" ");
    input.extend_from_slice(text);
    input.extend_from_slice(b"\n");
    let limits = Limits {
        max_inline: input.len(),
        ..Limits::default()
    };
    let mut requests = Requests::default();
    match RequestParser::new().parse(&mut input, &limits, 1, &mut requests) {
        Ok(1..) => requests.get(0).iter().map(<[u8]>::to_vec).collect(),
        _ => Vec::new(),
    }
}

/// SHA-256 in hexadecimal digits.
fn hashed(password: &[u8]) -> String {
    let hash = Sha256::digest(password);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn given_hash(hash: &[u8]) -> Result<String, RuleError> {
    let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    match hash.len() == HASH_LEN && hash.iter().all(is_digit) {
        true => Ok(String::from_utf8_lossy(hash).into_owned()),
        false => Err(RuleError::BadHash),
    }
}
