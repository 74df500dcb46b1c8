//! Where a playground lives, and the ports that it keeps between starts.
//!
//! `playground.json` (the shape), `lock`, `logs/`, `etcd/`, `node-<id>/`. A given
//! folder can be used again; two playgrounds in one folder are refused.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::HOST;
use super::ports::Ports;
use crate::cli::PlaygroundArgs;

/// Version of `playground.json`.
const SHAPE_VERSION: u32 = 1;

/// What runs, and on which ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Version of this file.
    v: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Number of groups.
    pub groups: u32,
    /// etcd's ports.
    pub etcd_port: u16,
    pub etcd_peer_port: u16,
    /// The proxy's port; not kept between starts.
    #[serde(skip)]
    pub proxy_port: u16,
    /// The nodes.
    pub nodes: Vec<NodeShape>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShape {
    pub id: String,
    pub port: u16,
    pub peer_port: u16,
}

impl Shape {
    /// etcd's URL for clients.
    pub fn etcd_url(&self) -> String {
        format!("http://{HOST}:{}", self.etcd_port)
    }
}

/// The folder, locked while this lives, and its ports, held as long.
pub struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
    pub shape: Shape,
    _ports: Ports,
    _lock: File,
}

impl Folder {
    /// Opens or makes the folder and chooses ports.
    ///
    /// # Errors
    /// In use, made for another shape, or the proxy's port is taken.
    pub fn open(args: &PlaygroundArgs, cluster: &str) -> anyhow::Result<Self> {
        let temporary = match &args.data_dir {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("cairn-playground-")
                    .tempdir()?,
            ),
        };
        let path = match (&args.data_dir, &temporary) {
            (Some(given), _) => given.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => bail!("there is no folder to use"),
        };
        let named = || format!("the folder {}", path.display());
        fs::create_dir_all(path.join("logs")).with_context(named)?;
        let path = path.canonicalize().with_context(named)?;
        let lock = lock(&path)?;
        let mut ports = Ports::default();
        let proxy_port = match args.proxy_port {
            0 => ports.free()?,
            port => claim_proxy_port(&mut ports, port)?,
        };
        let mut shape = shape(&path, args, cluster, &mut ports)?;
        shape.proxy_port = proxy_port;
        let json = serde_json::to_vec_pretty(&shape)?;
        fs::write(path.join("playground.json"), json).with_context(named)?;
        Ok(Self {
            path,
            temporary,
            shape,
            _ports: ports,
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Keeps even a temporary folder, so that its logs can be read.
    pub fn keep(mut self) -> PathBuf {
        if let Some(temporary) = self.temporary.take() {
            let _path = temporary.keep();
        }
        self.path.clone()
    }
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("lock"))?;
    // SAFETY: flock(2) on a descriptor that `file` keeps open.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    if locked {
        return Ok(file);
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => bail!(
            "another playground runs in {}: stop it, or choose another --data-dir",
            folder.display()
        ),
        _ => Err(error).with_context(|| format!("the lock in {}", folder.display())),
    }
}

/// The shape of the last start with its ports where they are free, or a new one.
fn shape(
    folder: &Path,
    args: &PlaygroundArgs,
    cluster: &str,
    ports: &mut Ports,
) -> anyhow::Result<Shape> {
    let Some(mut old) = read_shape(folder)? else {
        let nodes = (1..=args.nodes).map(|n| {
            Ok(NodeShape {
                id: format!("n{n}"),
                port: ports.free()?,
                peer_port: ports.free()?,
            })
        });
        return Ok(Shape {
            v: SHAPE_VERSION,
            cluster: cluster.into(),
            groups: args.groups,
            nodes: nodes.collect::<anyhow::Result<_>>()?,
            etcd_port: ports.free()?,
            etcd_peer_port: ports.free()?,
            proxy_port: 0,
        });
    };
    if old.nodes.len() != args.nodes as usize || old.groups != args.groups || old.cluster != cluster
    {
        bail!(
            "{} holds a playground of cluster `{}` with --nodes {} --groups {}: give the same, or another --data-dir",
            folder.display(),
            old.cluster,
            old.nodes.len(),
            old.groups
        );
    }
    ports.keep(&mut old.etcd_port)?;
    ports.keep(&mut old.etcd_peer_port)?;
    for node in &mut old.nodes {
        ports.keep(&mut node.port)?;
        ports.keep(&mut node.peer_port)?;
    }
    Ok(old)
}

fn read_shape(folder: &Path) -> anyhow::Result<Option<Shape>> {
    let path = folder.join("playground.json");
    if !path.exists() {
        let others = ["etcd", "node-n1"].map(|name| folder.join(name));
        if let Some(other) = others.iter().find(|p| p.exists()) {
            bail!(
                "{} is there but no playground.json: this is not a playground's folder",
                other.display()
            );
        }
        return Ok(None);
    }
    let json = fs::read(&path).with_context(|| path.display().to_string())?;
    let shape: Shape = serde_json::from_slice(&json)
        .with_context(|| format!("{} is not what a playground writes", path.display()))?;
    if shape.v != SHAPE_VERSION {
        bail!(
            "{} is of version {}, this program knows {SHAPE_VERSION}",
            path.display(),
            shape.v
        );
    }
    Ok(Some(shape))
}

fn claim_proxy_port(ports: &mut Ports, port: u16) -> anyhow::Result<u16> {
    match ports.hold(port) {
        Ok(()) => Ok(port),
        Err(error) => bail!(
            "the proxy cannot listen on port {port} ({error}): choose another with --proxy-port, or 0 for any"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn args(folder: &Path, nodes: u32) -> PlaygroundArgs {
        PlaygroundArgs {
            nodes,
            groups: 2,
            replicas: 1,
            proxy_port: 0,
            data_dir: Some(folder.to_owned()),
        }
    }

    #[test]
    fn a_second_start_has_the_same_shape_and_ports() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(&args(dir.path(), 3), "c").unwrap();
        let shape = Shape {
            proxy_port: 0,
            ..first.shape.clone()
        };
        assert_eq!(shape.nodes.len(), 3);
        drop(first);
        let second = Folder::open(&args(dir.path(), 3), "c").unwrap();
        assert_eq!(
            Shape {
                proxy_port: 0,
                ..second.shape.clone()
            },
            shape
        );
    }

    #[test]
    fn another_shape_in_the_same_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(Folder::open(&args(dir.path(), 3), "c").unwrap());
        let error = Folder::open(&args(dir.path(), 2), "c")
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("--nodes 3 --groups 2"), "{error}");
    }

    #[test]
    fn two_playgrounds_in_one_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Folder::open(&args(dir.path(), 1), "c").unwrap();
        let error = Folder::open(&args(dir.path(), 1), "c")
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("another playground runs"), "{error}");
    }

    #[test]
    fn a_taken_proxy_port_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind((HOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let args = PlaygroundArgs {
            proxy_port: port,
            ..args(dir.path(), 1)
        };
        let error = Folder::open(&args, "c").err().unwrap().to_string();
        assert!(error.contains("--proxy-port"), "{error}");
    }

    #[test]
    fn a_taken_port_of_a_node_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(&args(dir.path(), 1), "c").unwrap();
        let port = first.shape.nodes[0].port;
        drop(first);
        let _taken = TcpListener::bind((HOST, port)).unwrap();
        let second = Folder::open(&args(dir.path(), 1), "c").unwrap();
        assert_ne!(second.shape.nodes[0].port, port);
    }
}
