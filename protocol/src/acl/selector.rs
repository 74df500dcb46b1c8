//! One selector: commands, keys and channels that go together.

use crate::command::{CommandSpec, Flags, KeyFlags, glob_match};
use crate::resp::Args;

use super::commands::CommandSet;
use super::rules::{RuleError, has_space_or_nul};

/// Why a request is refused; the later, the closer it came to being allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    Command,
    /// The argument that is the key.
    Key(usize),
    /// The argument that is the channel.
    Channel(usize),
}

impl Denied {
    /// What ACL LOG calls it.
    pub fn reason(self) -> &'static str {
        match self {
            Denied::Command => "command",
            Denied::Key(_) => "key",
            Denied::Channel(_) => "channel",
        }
    }

    /// What ACL LOG shows: the command, the key or the channel.
    pub fn object<'a>(self, spec: &CommandSpec, args: &Args<'a>) -> &'a [u8] {
        match self {
            Denied::Command => spec.name.as_bytes(),
            Denied::Key(at) | Denied::Channel(at) => args.get(at),
        }
    }

    /// The error that a request gets.
    pub fn line(self, spec: &CommandSpec) -> String {
        match self {
            Denied::Command => format!(
                "NOPERM this user has no permissions to run the '{}' command",
                spec.name
            ),
            Denied::Key(_) => "NOPERM this user has no permissions to access one of the keys used \
                               as arguments"
                .into(),
            Denied::Channel(_) => "NOPERM this user has no permissions to access one of the \
                                   channels used as arguments"
                .into(),
        }
    }

    /// The error that a script is told.
    pub fn line_in_script(self) -> &'static str {
        match self {
            Denied::Command => "The user executing the script can't run this command or subcommand",
            Denied::Key(_) => {
                "The user executing the script can't access at least one of the keys mentioned in \
                 the command arguments"
            }
            Denied::Channel(_) => {
                "The user executing the script can't publish to the channel mentioned in the command"
            }
        }
    }

    /// The error of a command that was queued and is not allowed any more.
    pub fn line_at_exec(self) -> &'static str {
        match self {
            Denied::Command => {
                "NOPERM ACLs rules changed between the moment the transaction was accumulated and \
                 the EXEC call. This command is no longer allowed for the following reason: no \
                 permission to execute the command or subcommand"
            }
            Denied::Key(_) => {
                "NOPERM ACLs rules changed between the moment the transaction was accumulated and \
                 the EXEC call. This command is no longer allowed for the following reason: no \
                 permission to touch the specified keys"
            }
            Denied::Channel(_) => {
                "NOPERM ACLs rules changed between the moment the transaction was accumulated and \
                 the EXEC call. This command is no longer allowed for the following reason: no \
                 permission to access one of the channels used as arguments"
            }
        }
    }
}

/// Keys of a pattern, and what may be done to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPattern {
    pub pattern: Vec<u8>,
    pub read: bool,
    pub write: bool,
}

/// What may be done to a key, or is wanted of it.
#[derive(Debug, Clone, Copy)]
struct Access {
    read: bool,
    write: bool,
}

impl Access {
    fn of(flags: KeyFlags) -> Access {
        let writing = KeyFlags::INSERT | KeyFlags::DELETE | KeyFlags::UPDATE;
        Access {
            read: flags.intersects(KeyFlags::ACCESS),
            write: flags.intersects(writing),
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    pub(super) commands: CommandSet,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Vec<u8>>,
}

impl Selector {
    /// Allows nothing, but all channels if `all_channels` (acl-pubsub-default).
    pub fn new(all_channels: bool) -> Selector {
        Selector {
            commands: CommandSet::none(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
        }
    }

    /// Applies one rule.
    ///
    /// # Errors
    /// The rule is not one of a selector's, or contradicts what is there; nothing
    /// has changed then.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        if is("allkeys") || is("~*") {
            self.all_keys = true;
            self.keys.clear();
        } else if is("resetkeys") {
            self.all_keys = false;
            self.keys.clear();
        } else if is("allchannels") || is("&*") {
            self.all_channels = true;
            self.channels.clear();
        } else if is("resetchannels") {
            self.all_channels = false;
            self.channels.clear();
        } else if is("allcommands") || is("+@all") {
            self.commands = CommandSet::everything();
        } else if is("nocommands") || is("-@all") {
            self.commands = CommandSet::none();
        } else {
            return match rule.first() {
                Some(b'~' | b'%') => self.add_keys(rule),
                Some(b'&') => self.add_channels(&rule[1..]),
                Some(b'+') => self.commands.apply(true, &rule[1..]),
                Some(b'-') => self.commands.apply(false, &rule[1..]),
                _ => Err(RuleError::Syntax),
            };
        }
        Ok(())
    }

    fn add_keys(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AllKeys);
        }
        let new = key_pattern(rule)?;
        match self.keys.iter_mut().find(|k| k.pattern == new.pattern) {
            Some(known) => {
                known.read |= new.read;
                known.write |= new.write;
            }
            None => self.keys.push(new),
        }
        Ok(())
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::AllChannels);
        }
        if has_space_or_nul(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|c| c == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    /// Whether nothing needs to be looked at: everything is allowed.
    pub fn allows_everything(&self) -> bool {
        self.commands.all && self.all_keys && self.all_channels
    }

    /// Whether the selector allows a request, the command's name first.
    ///
    /// # Errors
    /// What is not allowed.
    pub fn check(&self, spec: &CommandSpec, args: &Args<'_>) -> Result<(), Denied> {
        let by_name = spec.flags.contains(Flags::NO_AUTH)
            || self.commands.allows(spec, |at| args.try_get(at));
        if !by_name {
            return Err(Denied::Command);
        }
        if !self.all_keys && spec.has_keys() {
            // A malformed request names no keys; whoever runs it says so.
            for key in spec.keys(args).unwrap_or_default() {
                let at = key.index as usize;
                if !self.allows_key(args.get(at), Access::of(key.flags)) {
                    return Err(Denied::Key(at));
                }
            }
        }
        if !self.all_channels {
            let (channels, are_patterns) = channels(spec, args);
            for at in channels {
                if !self.allows_channel(args.get(at), are_patterns) {
                    return Err(Denied::Channel(at));
                }
            }
        }
        Ok(())
    }

    fn allows_key(&self, key: &[u8], wanted: Access) -> bool {
        self.keys.iter().any(|known| {
            (known.read || !wanted.read)
                && (known.write || !wanted.write)
                && glob_match(&known.pattern, key, false)
        })
    }

    /// A pattern is compared with the selector's as it stands.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|known| match is_pattern {
                true => known == channel,
                false => glob_match(known, channel, false),
            })
    }

    /// Whether whatever key may be read, by `~*` or a pattern that is `*`.
    pub fn reads_all_keys(&self) -> bool {
        self.all_keys || self.keys.iter().any(|k| k.read && k.pattern == b"*")
    }

    /// The patterns of channels; `None`: all channels.
    pub fn channels(&self) -> Option<&[Vec<u8>]> {
        (!self.all_channels).then_some(&self.channels)
    }

    pub fn describe_keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let patterns: Vec<_> = self.keys.iter().map(describe_key).collect();
        patterns.join(&b' ')
    }

    pub fn describe_channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let patterns = self.channels.iter().map(|c| [b"&", &c[..]].concat());
        patterns.collect::<Vec<_>>().join(&b' ')
    }

    pub fn describe_commands(&self) -> String {
        self.commands.describe()
    }

    /// The rules that make this selector.
    pub fn describe(&self) -> Vec<u8> {
        let mut words = Vec::new();
        if self.all_keys || !self.keys.is_empty() {
            words.push(self.describe_keys());
        }
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        if self.all_channels || !self.channels.is_empty() {
            words.push(self.describe_channels());
        }
        words.push(self.describe_commands().into_bytes());
        words.join(&b' ')
    }
}

/// `~pattern`, `%R~pattern`, `%W~pattern`, `%RW~pattern`.
fn key_pattern(rule: &[u8]) -> Result<KeyPattern, RuleError> {
    let (mut read, mut write, mut at) = (true, true, 1);
    if rule[0] == b'%' {
        (read, write) = (false, false);
        loop {
            match rule.get(at).map(u8::to_ascii_uppercase) {
                Some(b'R') if !read => read = true,
                Some(b'W') if !write => write = true,
                Some(b'~') if read || write => break,
                // Redis takes `%RW` without a pattern as one for the empty key.
                None if at > 1 => break,
                _ => return Err(RuleError::Syntax),
            }
            at += 1;
        }
        at = (at + 1).min(rule.len());
    }
    let pattern = &rule[at..];
    if has_space_or_nul(pattern) {
        return Err(RuleError::Syntax);
    }
    Ok(KeyPattern {
        pattern: pattern.to_vec(),
        read,
        write,
    })
}

fn describe_key(key: &KeyPattern) -> Vec<u8> {
    let sign: &[u8] = match (key.read, key.write) {
        (true, true) => b"~",
        (true, false) => b"%R~",
        (false, _) => b"%W~",
    };
    [sign, &key.pattern].concat()
}

/// The arguments that are channels, and whether they are patterns. Leaving a channel
/// needs no permission.
fn channels(spec: &CommandSpec, args: &Args<'_>) -> (std::ops::Range<usize>, bool) {
    match spec.name {
        "publish" | "spublish" => (1..2.min(args.len()), false),
        "subscribe" | "ssubscribe" => (1..args.len(), false),
        "psubscribe" => (1..args.len(), true),
        _ => (0..0, false),
    }
}
