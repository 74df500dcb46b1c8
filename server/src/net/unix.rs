//! The socket in the file system that clients of this machine may come in by
//! (`unixsocket`). Whoever may write to its file may connect.

use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use tokio::net::{TcpStream, UnixStream};

use crate::config::Settings;

/// Listens until it is dropped; its file goes with it.
pub(super) struct UnixSocket {
    /// Every client's address. There is one for the life of the process.
    path: &'static str,
    listener: UnixListener,
}

impl UnixSocket {
    /// Listens where the settings say, if they name a path.
    ///
    /// # Errors
    /// It cannot be listened on; the message says so in Redis's words.
    pub(super) fn open(settings: &Settings) -> io::Result<Option<UnixSocket>> {
        let path = settings.text("unixsocket");
        if path.is_empty() {
            return Ok(None);
        }
        let mode = u32::from_str_radix(&settings.text("unixsocketperm"), 8)
            .expect("values are kept in their canonical form");
        let listener = listen(&path, mode).map_err(|error| {
            let line = format!("Failed opening Unix socket: {path}: {error}");
            io::Error::new(error.kind(), line)
        })?;
        let path = Box::leak(path.into_boxed_str());
        Ok(Some(UnixSocket { path, listener }))
    }

    /// The socket for one more thread, and its path.
    pub(super) fn share(&self) -> io::Result<(UnixListener, &'static str)> {
        Ok((self.listener.try_clone()?, self.path))
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // The next server removes what is left of it.
        let _ = std::fs::remove_file(self.path);
    }
}

/// A mode of 0 leaves the file what the process's umask makes of it.
fn listen(path: &str, mode: u32) -> io::Result<UnixListener> {
    // What a server that was killed left there is in the way.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    if mode != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(listener)
}

/// An accepted stream as connections have them. A `TcpStream` is a descriptor that
/// is read and written by calls which every stream socket takes.
pub(super) fn as_connection(stream: UnixStream) -> io::Result<TcpStream> {
    let descriptor = OwnedFd::from(stream.into_std()?);
    TcpStream::from_std(std::net::TcpStream::from(descriptor))
}
