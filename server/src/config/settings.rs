//! The value of every parameter, in the form in which CONFIG GET shows it.

use super::parameters::{DEFAULTS, Effect, PARAMETERS, Parameter, find};
use super::value;

/// See the module's documentation. Values are in the order of [`PARAMETERS`].
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    values: Vec<Vec<u8>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            values: DEFAULTS.clone(),
        }
    }
}

/// Shows only what differs from the defaults, and no secrets.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = f.debug_map();
        for (at, parameter) in self.changed() {
            let shown = match parameter.is_sensitive() {
                true => "(secret)".into(),
                false => String::from_utf8_lossy(&self.values[at]),
            };
            map.entry(&parameter.name, &shown);
        }
        map.finish()
    }
}

impl Settings {
    /// The value of the parameter at this position.
    pub fn value(&self, at: usize) -> &[u8] {
        &self.values[at]
    }

    /// Reads and keeps a value.
    ///
    /// # Errors
    /// The text with which Redis refuses it; nothing has changed then.
    pub fn set(&mut self, at: usize, args: &[&[u8]]) -> Result<(), String> {
        self.values[at] = value::read(&PARAMETERS[at], args, &self.values[at])?;
        Ok(())
    }

    /// The same by name, for values that this program chose.
    pub fn put(&mut self, name: &str, canonical: impl Into<Vec<u8>>) {
        self.values[position(name)] = canonical.into();
    }

    /// A value as bytes.
    pub fn bytes(&self, name: &str) -> &[u8] {
        &self.values[position(name)]
    }

    /// A value as text; what is no UTF-8 is replaced.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.bytes(name)).into_owned()
    }

    pub fn flag(&self, name: &str) -> bool {
        self.bytes(name) == b"yes"
    }

    /// A number, or the bytes of a memory value.
    pub fn number(&self, name: &str) -> i128 {
        self.text(name)
            .parse()
            .expect("values are kept in their canonical form")
    }

    /// The same for what is never negative; cut at the type's greatest value.
    pub fn count(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    /// Milliseconds of a time.
    pub fn millis(&self, name: &str) -> u64 {
        let text = self.text(name);
        let digits = text.strip_suffix("ms").unwrap_or(&text);
        digits
            .parse()
            .expect("values are kept in their canonical form")
    }

    pub fn is_default(&self, name: &str) -> bool {
        let at = position(name);
        self.values[at] == DEFAULTS[at]
    }

    /// What is not as by default.
    pub fn changed(&self) -> impl Iterator<Item = (usize, &'static Parameter)> {
        let changed = |at: &usize| self.values[*at] != DEFAULTS[*at];
        (0..PARAMETERS.len())
            .filter(changed)
            .map(|at| (at, &PARAMETERS[at]))
    }

    /// What was chosen and has no effect: (name, why).
    pub fn without_effect(&self) -> Vec<(&'static str, &'static str)> {
        let why = |p: &'static Parameter| match p.effect {
            Effect::None(why) => Some((p.name, why)),
            Effect::Works => None,
        };
        self.changed().filter_map(|(_, p)| why(p)).collect()
    }
}

fn position(name: &str) -> usize {
    find(name.as_bytes()).expect("the program asks for parameters of its own table")
}
