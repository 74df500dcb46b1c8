//! The ACL file: a line `user NAME rules...` for each user.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::rules::{RuleError, has_space_or_nul, merge_selectors};
use super::user::{Defaults, User};

/// Users by name.
pub(super) type Users = BTreeMap<Vec<u8>, User>;

/// Reads the users of a file's text; `name` is the file's, for messages.
///
/// # Errors
/// Redis's message with everything that is wrong, line by line.
pub(super) fn load(text: &[u8], name: &str, defaults: Defaults) -> Result<Users, String> {
    let mut users = Users::new();
    let mut errors = String::new();
    for (at, line) in text.split(|b| *b == b'\n').enumerate() {
        let words: Vec<&[u8]> = line
            .trim_ascii()
            .split(|b| *b == b' ')
            .filter(|word| !word.is_empty())
            .collect();
        if words.is_empty() {
            continue;
        }
        let place = format!("{name}:{}", at + 1);
        if words[0] != b"user" || words.len() < 2 {
            errors += &format!("{place} should start with user keyword followed by the username. ");
        } else if has_space_or_nul(words[1]) {
            let user = String::from_utf8_lossy(words[1]);
            errors += &format!("'{place}: username '{user}' contains invalid characters. ");
        } else if users.contains_key(words[1]) {
            let user = String::from_utf8_lossy(words[1]);
            errors += &format!(
                "WARNING: Duplicate user '{user}' found on line {}. ",
                at + 1
            );
        } else {
            let user = read_user(&words, &place, defaults, &mut errors);
            users.insert(words[1].to_vec(), user);
        }
    }
    match errors.is_empty() {
        true => Ok(users),
        false => Err(errors
            + "WARNING: ACL errors detected, no change to the previously active ACL rules was \
               performed"),
    }
}

fn read_user(words: &[&[u8]], place: &str, defaults: Defaults, errors: &mut String) -> User {
    let mut user = User::new(words[1], defaults);
    let Ok(rules) = merge_selectors(&words[2..]) else {
        *errors += &format!("{place}: Unmatched parenthesis in selector definition.");
        return user;
    };
    let mut told = false;
    for rule in rules {
        match user.apply(&rule, defaults) {
            Ok(()) => {}
            // A command's name is no secret; anything else may be.
            Err(error @ RuleError::Unknown) => {
                let rule = String::from_utf8_lossy(&rule);
                *errors += &format!("{place}: Error in applying operation '{rule}': {error}. ");
            }
            Err(error) if !told => {
                *errors += &format!("{place}: {error}. ");
                told = true;
            }
            Err(_) => {}
        }
    }
    user
}

/// Writes all users, in one step.
///
/// # Errors
/// The file cannot be written; the old one is still there.
pub fn save(path: &Path, users: impl Iterator<Item = Arc<User>>) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".tmp-{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::File::create(&temporary)?;
        for user in users {
            let line = [&user.line()[..], b"\n"].concat();
            file.write_all(&line)?;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
