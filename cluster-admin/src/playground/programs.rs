//! The programs of a playground and their command lines.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::process::Command;

use super::HOST;
use super::folder::{Folder, NodeShape, Shape};

/// Where the programs are.
pub struct Programs {
    etcd: PathBuf,
    server: PathBuf,
    proxy: PathBuf,
}

impl Programs {
    /// etcd on PATH; ours beside this program.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("where is this program?")?;
        let beside = own.parent().context("this program has no folder")?;
        let ours = |name: &str| {
            let path = beside.join(name);
            match path.is_file() {
                true => Ok(path),
                false => bail!(
                    "{} is missing: build it (`make build`), it belongs beside this program",
                    path.display()
                ),
            }
        };
        let Some(etcd) = on_path("etcd") else {
            bail!("`etcd` is not on PATH: install it (Debian: apt-get install etcd-server)");
        };
        Ok(Self {
            etcd,
            server: ours("cairn-server")?,
            proxy: ours("cairn-proxy")?,
        })
    }

    /// etcd with one member.
    pub fn etcd(&self, folder: &Folder) -> Command {
        let shape = &folder.shape;
        let client = shape.etcd_url();
        let peer = format!("http://{HOST}:{}", shape.etcd_peer_port);
        let mut command = Command::new(&self.etcd);
        command
            .args([
                "--name",
                "playground",
                "--logger",
                "zap",
                "--log-level",
                "warn",
            ])
            .arg("--data-dir")
            .arg(folder.path().join("etcd"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("playground={peer}")])
            .args([
                "--auto-compaction-mode",
                "periodic",
                "--auto-compaction-retention",
                "10m",
            ]);
        command
    }

    /// One node.
    pub fn node(&self, folder: &Folder, node: &NodeShape) -> Command {
        let shape = &folder.shape;
        let mut command = Command::new(&self.server);
        command
            .args(["--cluster", &shape.cluster, "--etcd", &shape.etcd_url()])
            .args(["--node-id", &node.id])
            .args(["--port", &node.port.to_string()])
            .args(["--peer-port", &node.peer_port.to_string()])
            .arg("--data-dir")
            .arg(folder.path().join(format!("node-{}", node.id)));
        command
    }

    /// The proxy.
    pub fn proxy(&self, shape: &Shape) -> Command {
        let mut command = Command::new(&self.proxy);
        command
            .args(["--cluster", &shape.cluster, "--etcd", &shape.etcd_url()])
            .args(["--port", &shape.proxy_port.to_string()]);
        command
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
