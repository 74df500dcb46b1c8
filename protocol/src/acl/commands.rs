//! Sets of commands: a bit for each, and first arguments of those without one.

use std::collections::BTreeMap;

use crate::command::{self, AclCategories, COUNT, CommandSpec};

use super::rules::RuleError;

const WORDS: usize = COUNT.div_ceil(64);

/// Which commands a selector allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandSet {
    bits: [u64; WORDS],
    /// Nothing was taken away since `+@all`: no bit need be looked at.
    pub(super) all: bool,
    /// Began with `+@all`: commands of later versions are allowed as well.
    future: bool,
    /// Command -> first arguments with which it may be called though its bit is off.
    first_args: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl CommandSet {
    pub(super) fn none() -> CommandSet {
        CommandSet {
            bits: [0; WORDS],
            all: false,
            future: false,
            first_args: BTreeMap::new(),
        }
    }

    pub(super) fn everything() -> CommandSet {
        CommandSet {
            bits: [u64::MAX; WORDS],
            all: true,
            future: true,
            first_args: BTreeMap::new(),
        }
    }

    fn bit(&self, spec: &CommandSpec) -> bool {
        let at = spec.id.index();
        self.bits[at / 64] >> (at % 64) & 1 == 1
    }

    fn set_bit(&mut self, spec: &CommandSpec, on: bool) {
        let at = spec.id.index();
        let mask = 1 << (at % 64);
        match on {
            true => self.bits[at / 64] |= mask,
            false => {
                self.bits[at / 64] &= !mask;
                self.all = false;
            }
        }
        self.first_args.remove(&at);
    }

    /// A container takes its subcommands along.
    fn set(&mut self, spec: &CommandSpec, on: bool) {
        self.set_bit(spec, on);
        for sub in spec.subcommands {
            self.set_bit(sub, on);
        }
    }

    fn set_category(&mut self, category: AclCategories, on: bool) {
        for spec in command::all().filter(|spec| spec.categories.contains(category)) {
            self.set(spec, on);
        }
    }

    /// Applies `+name`, `-name`, `+name|sub`, `+@category`, `-@category`.
    pub(super) fn apply(&mut self, on: bool, what: &[u8]) -> Result<(), RuleError> {
        if let Some(category) = what.strip_prefix(b"@") {
            let category = AclCategories::from_name(category).ok_or(RuleError::Unknown)?;
            self.set_category(category, on);
            return Ok(());
        }
        let bar = what.iter().rposition(|b| *b == b'|');
        let Some(bar) = bar.filter(|_| on) else {
            self.set(named(what)?, on);
            return Ok(());
        };
        let (container, sub) = (named(&what[..bar])?, &what[bar + 1..]);
        if container.is_subcommand() {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if sub.is_empty() {
            return Err(RuleError::Syntax);
        }
        if container.is_container() {
            self.set(named(what)?, true);
        } else {
            let known = self.first_args.entry(container.id.index()).or_default();
            let sub = sub.to_ascii_lowercase();
            if !known.contains(&sub) {
                known.push(sub);
            }
        }
        Ok(())
    }

    /// Whether a command may be called with these arguments, its name first.
    pub(super) fn allows<'a>(
        &self,
        spec: &CommandSpec,
        arg: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> bool {
        if self.all || self.bit(spec) {
            return true;
        }
        let Some(known) = self.first_args.get(&spec.id.index()) else {
            return false;
        };
        let first = arg(if spec.is_subcommand() { 2 } else { 1 });
        first.is_some_and(|first| known.iter().any(|k| k.eq_ignore_ascii_case(first)))
    }

    /// Rules that make this set of none: few, by categories where they fit.
    pub(super) fn describe(&self) -> String {
        let mut rules = vec![if self.future { "+@all" } else { "-@all" }.to_owned()];
        let mut so_far = match self.future {
            true => CommandSet::everything(),
            false => CommandSet::none(),
        };
        let mut rest = CommandSet {
            first_args: BTreeMap::new(),
            ..self.clone()
        };
        let additive = !self.future;
        let sign = if additive { '+' } else { '-' };
        let mut applied: Vec<AclCategories> = Vec::new();
        while let Some((category, name)) = rest.best_category(additive, &applied) {
            so_far.set_category(category, additive);
            rest.set_category(category, !additive);
            rules.push(format!("{sign}@{name}"));
            applied.push(category);
        }
        for spec in command::top_level() {
            self.describe_single(spec, &mut so_far, &mut rules);
            for sub in spec.subcommands {
                self.describe_single(sub, &mut so_far, &mut rules);
            }
        }
        rules.join(" ")
    }

    /// The category that explains most of what is left, if it explains more than
    /// it spoils.
    fn best_category(
        &self,
        additive: bool,
        applied: &[AclCategories],
    ) -> Option<(AclCategories, &'static str)> {
        let mut best = None;
        let (mut least, mut most) = (usize::MAX, 0);
        for (category, name) in AclCategories::NAMES {
            if applied.contains(category) {
                continue;
            }
            let members = command::all().filter(|spec| spec.categories.contains(*category));
            let (on, off) = members.fold((0, 0), |(on, off), spec| match self.bit(spec) {
                true => (on + 1, off),
                false => (on, off + 1),
            });
            let (same, other) = if additive { (on, off) } else { (off, on) };
            if same > other && (other < least || (other == least && same > most)) {
                best = Some((*category, *name));
                (least, most) = (other, same);
            }
        }
        best
    }

    fn describe_single(&self, spec: &CommandSpec, so_far: &mut CommandSet, out: &mut Vec<String>) {
        let wanted = self.bit(spec);
        if wanted != so_far.bit(spec) {
            out.push(format!("{}{}", if wanted { '+' } else { '-' }, spec.name));
            so_far.set(spec, wanted);
        }
        let first_args = self.first_args.get(&spec.id.index());
        for first in first_args.into_iter().flatten().filter(|_| !wanted) {
            out.push(format!("+{}|{}", spec.name, String::from_utf8_lossy(first)));
        }
    }
}

fn named(name: &[u8]) -> Result<&'static CommandSpec, RuleError> {
    command::lookup_full(&name.to_ascii_lowercase()).ok_or(RuleError::Unknown)
}
