//! CLIENT TRACKING and CLIENT CACHING: what a client may ask for, and what it
//! is told that asks for something else. Who tracks what is kept elsewhere.

use crate::resp::{Args, number::parse_i64};

/// Which keys are remembered for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// It does not track.
    #[default]
    Off,
    /// All that it reads.
    All,
    /// Those read by a command behind CLIENT CACHING YES.
    OptIn,
    /// All but those read by a command behind CLIENT CACHING NO.
    OptOut,
    /// None: it hears of every key under its prefixes.
    Broadcast,
}

/// The options of CLIENT TRACKING.
#[derive(Debug)]
pub struct Options<'a, R> {
    /// Switched on, not off.
    pub on: bool,
    /// The client that gets the invalidations in its place.
    pub redirect: Option<R>,
    pub no_loop: bool,
    pub prefixes: Vec<&'a [u8]>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
}

impl<'a, R> Options<'a, R> {
    /// Reads `CLIENT TRACKING ON | OFF [REDIRECT client-id] [PREFIX prefix
    /// [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]`; `find` knows
    /// clients by their ids.
    ///
    /// # Errors
    /// Redis's line.
    pub fn read(args: &Args<'a>, find: impl Fn(u64) -> Option<R>) -> Result<Self, String> {
        let mut options = Options {
            on: false,
            redirect: None,
            no_loop: false,
            prefixes: Vec::new(),
            broadcast: false,
            opt_in: false,
            opt_out: false,
        };
        let mut at = 3;
        while let Some(word) = args.try_get(at) {
            match (word, args.try_get(at + 1)) {
                (word, Some(_)) if is(word, "redirect") && options.redirect.is_some() => {
                    return refuse("ERR A client can only redirect to a single other client");
                }
                (word, Some(id)) if is(word, "redirect") => {
                    options.redirect = Some(redirect(id, &find)?);
                    at += 1;
                }
                (word, Some(prefix)) if is(word, "prefix") => {
                    options.prefixes.push(prefix);
                    at += 1;
                }
                (word, _) if is(word, "bcast") => options.broadcast = true,
                (word, _) if is(word, "optin") => options.opt_in = true,
                (word, _) if is(word, "optout") => options.opt_out = true,
                (word, _) if is(word, "noloop") => options.no_loop = true,
                _ => return refuse(SYNTAX),
            }
            at += 1;
        }
        match args.get(2) {
            word if is(word, "on") => options.on = true,
            word if is(word, "off") => {}
            _ => return refuse(SYNTAX),
        }
        Ok(options)
    }

    /// What is to be remembered, if the options agree with each other and with
    /// what the client has chosen before; `own` are its prefixes.
    ///
    /// # Errors
    /// Redis's line.
    pub fn kind<P: AsRef<[u8]>>(&self, before: Kind, own: &[P]) -> Result<Kind, String> {
        if !self.broadcast && !self.prefixes.is_empty() {
            return refuse("ERR PREFIX option requires BCAST mode to be enabled");
        }
        if before != Kind::Off && (before == Kind::Broadcast) != self.broadcast {
            return refuse(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            );
        }
        if self.broadcast && (self.opt_in || self.opt_out) {
            return refuse("ERR OPTIN and OPTOUT are not compatible with BCAST");
        }
        if self.opt_in && self.opt_out {
            return refuse("ERR You can't specify both OPTIN mode and OPTOUT mode");
        }
        if (self.opt_in && before == Kind::OptOut) || (self.opt_out && before == Kind::OptIn) {
            return refuse(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            );
        }
        self.check_prefixes(own)?;
        Ok(match (self.broadcast, self.opt_in, self.opt_out) {
            (true, _, _) => Kind::Broadcast,
            (_, true, _) => Kind::OptIn,
            (_, _, true) => Kind::OptOut,
            _ => Kind::All,
        })
    }

    /// No key may be under two prefixes of one client.
    fn check_prefixes<P: AsRef<[u8]>>(&self, own: &[P]) -> Result<(), String> {
        for (at, prefix) in self.prefixes.iter().enumerate() {
            let mut own = own.iter().map(AsRef::as_ref);
            if let Some(other) = own.find(|other| overlap(prefix, other)) {
                return Err(collision(prefix, "an existing prefix", other));
            }
            let later = &self.prefixes[at + 1..];
            if let Some(other) = later.iter().find(|other| overlap(prefix, other)) {
                return Err(collision(prefix, "another provided prefix", other));
            }
        }
        Ok(())
    }
}

const SYNTAX: &str = "ERR syntax error";

fn refuse<T>(line: &str) -> Result<T, String> {
    Err(line.to_owned())
}

fn redirect<R>(id: &[u8], find: impl Fn(u64) -> Option<R>) -> Result<R, String> {
    let id = parse_i64(id).ok_or("ERR value is not an integer or out of range")?;
    let target = find(id as u64);
    Ok(target.ok_or("ERR The client ID you want redirect to does not exist")?)
}

fn overlap(a: &[u8], b: &[u8]) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn collision(prefix: &[u8], what: &str, other: &[u8]) -> String {
    format!(
        "ERR Prefix '{}' overlaps with {what} '{}'. Prefixes for a single client must not overlap.",
        String::from_utf8_lossy(prefix),
        String::from_utf8_lossy(other)
    )
}

fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// Whether a client that tracks like this may say CLIENT CACHING `word`.
///
/// # Errors
/// Redis's line.
pub fn check_caching(kind: Kind, word: &[u8]) -> Result<(), &'static str> {
    if kind == Kind::Off {
        return Err(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN \
             or OPTOUT mode enabled",
        );
    }
    let (needed, refused) = match word {
        word if is(word, "yes") => (
            Kind::OptIn,
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
        ),
        word if is(word, "no") => (
            Kind::OptOut,
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        ),
        _ => return Err(SYNTAX),
    };
    match kind == needed {
        true => Ok(()),
        false => Err(refused),
    }
}

/// The flags of CLIENT TRACKINGINFO; `caching`: CLIENT CACHING holds for the
/// next command, `broken`: the client that is redirected to has gone.
pub fn flags(kind: Kind, caching: bool, no_loop: bool, broken: bool) -> Vec<&'static str> {
    let words: &[&str] = match (kind, caching) {
        (Kind::Off, _) => &["off"],
        (Kind::All, _) => &["on"],
        (Kind::Broadcast, _) => &["on", "bcast"],
        (Kind::OptIn, false) => &["on", "optin"],
        (Kind::OptIn, true) => &["on", "optin", "caching-yes"],
        (Kind::OptOut, false) => &["on", "optout"],
        (Kind::OptOut, true) => &["on", "optout", "caching-no"],
    };
    let mut flags = words.to_vec();
    flags.extend(no_loop.then_some("noloop"));
    flags.extend(broken.then_some("broken_redirect"));
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Requests;

    fn kind(options: &str, before: Kind, own: &[&str]) -> Result<Kind, String> {
        let words: Vec<&str> = ["CLIENT", "TRACKING"]
            .into_iter()
            .chain(options.split(' '))
            .collect();
        let mut requests = Requests::default();
        requests.push_owned(&words);
        Options::read(&requests.get(0), |id| (id < 10).then_some(id))?.kind(before, own)
    }

    #[test]
    fn options_say_what_is_remembered() {
        assert_eq!(kind("on", Kind::Off, &[]), Ok(Kind::All));
        assert_eq!(kind("ON OPTIN NOLOOP", Kind::OptIn, &[]), Ok(Kind::OptIn));
        assert_eq!(
            kind("ON OPTOUT REDIRECT 7", Kind::All, &[]),
            Ok(Kind::OptOut)
        );
        let broadcast = kind("ON BCAST PREFIX a PREFIX b", Kind::Broadcast, &["c"]);
        assert_eq!(broadcast, Ok(Kind::Broadcast));
    }

    #[test]
    fn what_cannot_be_is_refused_in_redis_words() {
        let refused = |options: &str, before, own: &[&str], words: &str| {
            let line = kind(options, before, own).unwrap_err();
            assert!(line.starts_with("ERR ") && line.contains(words), "{line}");
        };
        refused("MAYBE", Kind::Off, &[], "syntax error");
        refused("ON PREFIX", Kind::Off, &[], "syntax error");
        refused("ON REDIRECT x", Kind::Off, &[], "not an integer");
        refused("ON REDIRECT 10", Kind::Off, &[], "does not exist");
        refused("ON REDIRECT 1 REDIRECT 2", Kind::Off, &[], "a single other");
        refused("ON PREFIX a", Kind::Off, &[], "requires BCAST");
        refused("ON BCAST", Kind::All, &[], "switch BCAST mode on/off");
        refused("ON", Kind::Broadcast, &[], "switch BCAST mode on/off");
        refused(
            "ON BCAST OPTIN",
            Kind::Off,
            &[],
            "not compatible with BCAST",
        );
        refused(
            "ON OPTIN OPTOUT",
            Kind::Off,
            &[],
            "both OPTIN mode and OPTOUT",
        );
        refused("ON OPTIN", Kind::OptOut, &[], "switch OPTIN/OPTOUT");
        refused(
            "ON BCAST PREFIX ab",
            Kind::Broadcast,
            &["a"],
            "existing prefix 'a'",
        );
        let both = "ON BCAST PREFIX ab PREFIX abc";
        refused(both, Kind::Off, &[], "another provided prefix 'abc'");
    }

    #[test]
    fn caching_goes_with_the_chosen_mode() {
        assert_eq!(check_caching(Kind::OptIn, b"yes"), Ok(()));
        assert_eq!(check_caching(Kind::OptOut, b"NO"), Ok(()));
        let refused = |kind, word: &[u8]| check_caching(kind, word).unwrap_err();
        assert!(refused(Kind::Off, b"maybe").contains("only when the client is in tracking"));
        assert!(refused(Kind::OptOut, b"yes").contains("OPTIN mode"));
        assert!(refused(Kind::All, b"no").contains("OPTOUT mode"));
        assert_eq!(refused(Kind::All, b"maybe"), SYNTAX);
    }
}
