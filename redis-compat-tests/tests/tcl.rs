//! Redis's own Tcl suite against Cairn: standalone, through a proxy, and with the
//! suite starting our server itself. What fails, and why, is in `expected/`.
//!
//! `CAIRN_UNITS=unit/type/hash` runs one unit, `CAIRN_RATCHET=write` renews the
//! expectations, `CAIRN_JUDGE_REDIS=1` puts redis-server in Cairn's place.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Result;
use cairn_tests::binaries;
use cairn_tests::cluster::Cluster;
use cairn_tests::peers::Redis;
use cairn_tests::server::Server;
use redis_compat_tests::suite::{judge, judges_redis};
use redis_compat_tests::unit::Target;

/// The suites share two cores: one at a time.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn the_redis_suite_against_a_standalone_server() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    judge("standalone", &|_| {
        if judges_redis() {
            let server = Redis::start(&["--save", "", "--enable-debug-command", "yes"]);
            let port = server.port();
            return Ok((
                Target::External {
                    port,
                    cluster: false,
                },
                Box::new(server),
            ));
        }
        let server = Server::start(&["--enable-debug-command", "yes"]);
        let port = server.port();
        Ok((
            Target::External {
                port,
                cluster: false,
            },
            Box::new(server),
        ))
    });
}

/// Two of the three judges take too long for every run: `CAIRN_SUITES=all` has them,
/// or the name of one.
fn left_out(name: &str) -> bool {
    let chosen = std::env::var("CAIRN_SUITES").unwrap_or_default();
    let wanted = chosen.split(',').any(|c| c == "all" || c == name);
    if !wanted {
        println!("LEFT OUT: {name}; CAIRN_SUITES=all runs it");
    }
    !wanted
}

#[test]
fn the_redis_suite_through_a_proxy_onto_two_groups() {
    if left_out("cluster") {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    judge("cluster", &|_| {
        if judges_redis() {
            let server = Redis::start(&["--save", "", "--enable-debug-command", "yes"]);
            let port = server.port();
            return Ok((
                Target::External {
                    port,
                    cluster: true,
                },
                Box::new(server),
            ));
        }
        let mut cluster = Cluster::start(2, 2);
        cluster.restart_nodes_with(&["--enable-debug-command", "yes"]);
        let port = cluster.proxy_port;
        Ok((
            Target::External {
                port,
                cluster: true,
            },
            Box::new(cluster),
        ))
    });
}

#[test]
fn the_redis_suite_that_starts_our_server() {
    if left_out("own-server") {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    judge("own-server", &|tree| {
        install_wrapper(tree)?;
        Ok((Target::Own, Box::new(())))
    });
}

/// Puts our server where the suite looks for redis-server. The suite reads the log
/// from the standard output, where redis-server writes it.
fn install_wrapper(tree: &Path) -> Result<()> {
    let path = tree.join("src/redis-server");
    let script = match judges_redis() {
        true => "#!/bin/bash\nexec /usr/bin/redis-server \"$@\"\n".to_owned(),
        false => format!(
            "#!/bin/bash\nexec -a \"$0\" {} \"$@\" 2>&1\n",
            binaries::cairn("cairn-server").display()
        ),
    };
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
