use crate::command::{Resolved, resolve};
use crate::resp::Requests;

use super::*;

fn user(rules: &str) -> User {
    let mut user = User::new(b"u", Defaults::default());
    let words: Vec<&str> = rules.split(' ').collect();
    user.apply_all(&words, Defaults::default()).unwrap();
    user
}

fn check(user: &User, line: &str) -> Result<(), Denied> {
    let mut requests = Requests::default();
    requests.push_owned(line.split(' '));
    let args = requests.get(0);
    let Resolved::Command(spec) = resolve(&args) else {
        panic!("no such command: {line}");
    };
    user.check(spec, &args)
}

fn refused(rules: &str) -> String {
    let mut user = User::new(b"u", Defaults::default());
    let words: Vec<&str> = rules.split(' ').collect();
    user.apply_all(&words, Defaults::default()).unwrap_err()
}

fn refusal(word: &str, error: RuleError) -> String {
    format!("Error in ACL SETUSER modifier '{word}': {error}")
}

#[test]
fn a_new_user_may_do_nothing_and_the_default_user_everything() {
    assert_eq!(check(&user("on"), "GET a"), Err(Denied::Command));
    assert_eq!(check(&user("on"), "PING"), Err(Denied::Command));
    assert_eq!(check(&User::default_user(), "FLUSHALL"), Ok(()));
    let text = User::default_user().describe();
    assert_eq!(text, b"on nopass ~* &* +@all");
}

#[test]
fn commands_keys_and_channels_are_each_asked_for() {
    let user = user("on +get +set +publish ~a:* %R~r &c*");
    assert_eq!(check(&user, "GET a:1"), Ok(()));
    assert_eq!(check(&user, "GET b"), Err(Denied::Key(1)));
    assert_eq!(check(&user, "GET r"), Ok(()));
    assert_eq!(check(&user, "SET r 1"), Err(Denied::Key(1)));
    assert_eq!(check(&user, "DEL a:1"), Err(Denied::Command));
    assert_eq!(check(&user, "PUBLISH c1 x"), Ok(()));
    assert_eq!(check(&user, "PUBLISH d x"), Err(Denied::Channel(1)));
}

#[test]
fn one_selector_must_allow_all_of_a_request() {
    let user = user("on +get ~a (+set ~b)");
    assert_eq!(check(&user, "GET a"), Ok(()));
    assert_eq!(check(&user, "SET b 1"), Ok(()));
    assert_eq!(check(&user, "SET a 1"), Err(Denied::Key(1)));
    assert_eq!(check(&user, "GET b"), Err(Denied::Key(1)));
    assert_eq!(check(&user, "DEL a"), Err(Denied::Command));
}

#[test]
fn subcommands_and_first_arguments_are_told_apart() {
    let user = user("on +config|get +select|0");
    assert_eq!(check(&user, "CONFIG GET x"), Ok(()));
    assert_eq!(check(&user, "CONFIG SET x y"), Err(Denied::Command));
    assert_eq!(check(&user, "SELECT 0"), Ok(()));
    assert_eq!(check(&user, "SELECT 1"), Err(Denied::Command));
}

#[test]
fn categories_come_and_go() {
    let user = user("on ~* +@all -@dangerous +info");
    assert_eq!(check(&user, "GET a"), Ok(()));
    assert_eq!(check(&user, "FLUSHALL"), Err(Denied::Command));
    assert_eq!(check(&user, "INFO"), Ok(()));
}

#[test]
fn a_described_user_is_the_same_when_read_again() {
    for rules in [
        "on nopass ~* &* +@all -@dangerous +info",
        "off >secret resetchannels &a &b ~x %R~y %W~z -@all +@read -get +config|get",
        "on +@string +@hash -set (~a +get) (~b &c +@all -debug)",
        "on +select|0 +select|1 +@all -flushall",
    ] {
        let user = user(rules);
        let text = String::from_utf8(user.describe()).unwrap();
        let mut again = User::new(b"u", Defaults::default());
        let words: Vec<&str> = text.split(' ').collect();
        again.apply_all(&words, Defaults::default()).unwrap();
        assert_eq!(again, user, "{text}");
    }
}

#[test]
fn descriptions_read_as_those_of_redis() {
    let text = |rules| String::from_utf8(user(rules).describe()).unwrap();
    assert_eq!(text("on +acl"), "on resetchannels -@all +acl");
    assert_eq!(
        text("on >a ~k* +@all -config"),
        "on #ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb ~k* resetchannels \
         +@all -config"
    );
}

#[test]
fn wrong_rules_are_named_and_change_nothing() {
    assert_eq!(refused("+nosuch"), refusal("+nosuch", RuleError::Unknown));
    assert_eq!(refused("+@nosuch"), refusal("+@nosuch", RuleError::Unknown));
    assert_eq!(refused("~* ~a"), refusal("~a", RuleError::AllKeys));
    assert_eq!(refused("&* &a"), refusal("&a", RuleError::AllChannels));
    assert_eq!(refused("%~a"), refusal("%~a", RuleError::Syntax));
    assert_eq!(
        refused("<pass"),
        refusal("<pass", RuleError::NoSuchPassword)
    );
    assert_eq!(refused("#abc"), refusal("#abc", RuleError::BadHash));
    assert_eq!(
        refused("+config|get|x"),
        refusal("+config|get|x", RuleError::FirstArgOfSubcommand)
    );
    assert_eq!(refused("+select|"), refusal("+select|", RuleError::Syntax));
    assert_eq!(
        refused("(+get"),
        "Unmatched parenthesis in acl selector starting at '(+get'."
    );
    let mut user = user("on");
    let before = user.clone();
    let words = ["off", "+nosuch"];
    assert!(user.apply_all(&words, Defaults::default()).is_err());
    assert_eq!(user, before);
}

#[test]
fn passwords_are_kept_as_hashes() {
    let user = user("on >one >two <two");
    assert!(user.accepts(b"one"));
    assert!(!user.accepts(b"two"));
    assert!(user_without_passwords().accepts(b"anything"));
}

fn user_without_passwords() -> User {
    user("on >one nopass")
}

#[test]
fn alike_refusals_are_counted_and_the_log_is_bounded() {
    let entry = |object: &str, at| LogEntry {
        count: 1,
        reason: "key",
        context: Context::TopLevel,
        object: object.into(),
        username: b"u".to_vec(),
        at,
        client: String::new(),
    };
    let mut log = AclLog::default();
    log.note(entry("a", 0), 2);
    log.note(entry("b", 1), 2);
    log.note(entry("a", 2), 2);
    let counts: Vec<_> = log.newest(9).map(|e| (e.object.clone(), e.count)).collect();
    assert_eq!(counts, [(b"a".to_vec(), 2), (b"b".to_vec(), 1)]);
    log.note(entry("a", 90_000), 2);
    assert_eq!(log.newest(9).next().unwrap().count, 1);
    assert_eq!(log.newest(9).len(), 2);
}

#[test]
fn a_file_is_read_whole_or_not_at_all() {
    let registry = Registry::default();
    registry
        .load(b"user a on nopass\n\nuser b off\n", "f")
        .unwrap();
    assert_eq!(registry.all().len(), 3);
    let errors = registry.load(b"user a on\nuser a on\nusr\nuser c +x", "f");
    let errors = errors.err().unwrap();
    assert_eq!(registry.all().len(), 3);
    for part in [
        "Duplicate user 'a'",
        "f:3 should start",
        "f:4: Error in applying operation '+x'",
    ] {
        assert!(errors.contains(part), "{errors}");
    }
}

#[test]
fn who_is_logged_in_follows_the_rules_as_they_change() {
    let registry = Registry::default();
    registry.set(b"u", &["on", ">p", "+get", "~a"]).unwrap();
    let mut entered = None;
    assert!(!registry.log_in(b"u", b"x", |_| panic!("a wrong password")));
    assert!(!registry.log_in(b"nobody", b"x", |_| panic!("nobody")));
    assert!(registry.log_in(b"u", b"p", |account| entered = Some(account.clone())));
    let account = entered.unwrap();
    assert!(!account.is_unrestricted());
    registry
        .set(b"u", &["allcommands", "allkeys", "allchannels"])
        .unwrap();
    assert!(account.is_unrestricted());
    registry.set(b"u", &["off", "-get"]).unwrap();
    assert!(!account.is_unrestricted());
    assert_eq!(check(&account.user(), "GET a"), Err(Denied::Command));
    assert!(!registry.log_in(b"u", b"p", |_| panic!("it is off")));
    assert!(registry.delete(b"u").is_some());
    assert!(registry.delete(DEFAULT_USER).is_none());
}

#[test]
fn channels_that_are_lost_are_told() {
    let registry = Registry::default();
    registry.set(b"u", &["&a", "&b*"]).unwrap();
    assert!(registry.set(b"u", &["&c"]).unwrap().is_none());
    let revoked = registry.set(b"u", &["resetchannels", "&b*", "&c"]).unwrap();
    let user = revoked.unwrap().user;
    assert!(user.may_listen(b"b1", false) && !user.may_listen(b"a", false));
    assert!(user.may_listen(b"b*", true) && !user.may_listen(b"b1", true));
    assert!(registry.set(b"u", &["allchannels"]).unwrap().is_none());
    assert!(
        registry
            .set(b"u", &["resetchannels", "&c"])
            .unwrap()
            .is_some()
    );
}

#[test]
fn the_default_user_is_open_until_it_has_a_password_or_is_off() {
    let registry = Registry::default();
    assert!(registry.is_open());
    registry.set_default_password(Some(b"p"));
    assert!(!registry.is_open() && !registry.default_has_no_password());
    registry.set_default_password(None);
    assert!(registry.is_open());
    registry.set(DEFAULT_USER, &["off"]).unwrap();
    assert!(!registry.is_open() && registry.default_has_no_password());
}

/// Regression: a node that had not heard of the cluster yet took whoever came for a
/// default user without a password, and changed the cluster's users for him.
#[test]
fn nobody_comes_in_while_users_are_awaited() {
    let registry = Registry::default();
    registry.set_awaited(true);
    assert!(!registry.is_open());
    assert!(!registry.log_in(DEFAULT_USER, b"any", |_| ()));
    registry.set_awaited(false);
    assert!(registry.is_open());
    assert!(registry.log_in(DEFAULT_USER, b"any", |_| ()));
}

#[test]
fn reading_whatever_key_needs_one_selector_that_may() {
    let sort = |rules: &str| {
        let user = user(rules);
        let mut requests = Requests::default();
        requests.push_owned(["SORT", "l", "BY", "v*"]);
        let args = requests.get(0);
        let Resolved::Command(spec) = resolve(&args) else {
            panic!("SORT is known");
        };
        user.may_read_all(spec, &args)
    };
    assert!(!sort("on +sort ~l ~v*"));
    assert!(!sort("on +sort ~l %W~*"));
    assert!(!sort("on +sort ~l (+get %R~*)"));
    assert!(sort("on +sort ~l %R~*"));
    assert!(sort("on +@all ~* &*"));
}

#[test]
fn a_selector_may_have_words_in_quotes() {
    let user = user_of(&["on", "(\"~a\" +get)", "(\"~b)"]);
    assert_eq!(user.selectors().len(), 3);
    assert_eq!(check(&user, "GET a"), Ok(()));
    assert_eq!(user.selectors()[2].describe_commands(), "-@all");
}

fn user_of(words: &[&str]) -> User {
    let mut user = User::new(b"u", Defaults::default());
    user.apply_all(words, Defaults::default()).unwrap();
    user
}

#[test]
fn a_reset_says_that_payloads_are_looked_at() {
    assert_eq!(user("on reset").flags(), ["off", "sanitize-payload"]);
    assert_eq!(user("on").flags(), ["on"]);
}
