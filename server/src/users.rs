//! Users and the clients that are logged in as them.
//!
//! What a user may do is `cairn_protocol::acl`; here is what a change of users
//! does to connections, and where users come from: the configuration or the
//! ACL file, never both, or in a cluster etcd.

use std::sync::Arc;

use anyhow::Context;
use cairn_protocol::acl::{
    self, Account, Change, Changes, DEFAULT_IS_THE_CLUSTERS, Registry, Revoked,
};

use crate::config::{Config, Settings};
use crate::net::session::Client;
use crate::pubsub::Kind;
use crate::server::{Home, Server};

/// The users that a configuration declares. Its rules were checked when it was
/// read.
pub fn configured(config: &Config) -> Arc<Registry> {
    let registry = Registry::default();
    follow(&registry, &config.settings);
    let password = config.requirepass.as_deref().map(str::as_bytes);
    registry.set_default_password(password);
    for declared in &config.users {
        if let Err(error) = registry.declare(&declared.name, &declared.rules) {
            let user = String::from_utf8_lossy(&declared.name);
            tracing::error!(%user, error, "a user cannot be made");
        }
    }
    Arc::new(registry)
}

/// Takes over what the settings are now.
pub fn follow(registry: &Registry, settings: &Settings) {
    let all_channels = settings.bytes("acl-pubsub-default") == b"allchannels";
    registry.follow(all_channels, settings.count("acllog-max-len"));
}

impl Server {
    /// The ACL file, if users are kept in one.
    pub fn acl_file(&self) -> Option<String> {
        let name = self.settings.lock().text("aclfile");
        Some(name).filter(|name| !name.is_empty())
    }

    /// At the start: reads the ACL file, if there is to be one.
    ///
    /// # Errors
    /// It cannot be read, or has errors.
    pub fn load_users(&self) -> anyhow::Result<()> {
        match self.acl_file() {
            None => Ok(()),
            Some(file) => self
                .reload_users(&file)
                .map_err(anyhow::Error::msg)
                .context("the users of the ACL file"),
        }
    }

    /// ACL LOAD. May wait for the disk.
    ///
    /// # Errors
    /// Redis's text; nothing has changed then.
    pub fn reload_users(&self, file: &str) -> Result<(), String> {
        let text = std::fs::read(file).map_err(|error| {
            let why = system_text(&error);
            format!("Error loading ACLs, opening file '{file}': {why}")
        })?;
        let gone = self.acl.load(&text, file)?;
        self.expel(&gone);
        Ok(())
    }

    /// ACL SAVE. May wait for the disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_users(&self, file: &str) -> std::io::Result<()> {
        let users = self.acl.all();
        acl::save(file.as_ref(), users.iter().map(|account| account.user()))
    }

    /// ACL SETUSER and DELUSER: how many users there were to change. In a
    /// cluster it is changed as a whole, and waited for.
    ///
    /// # Errors
    /// The error line; nothing has changed then, unless it says otherwise.
    pub fn change_users(&self, change: &Change) -> Result<usize, String> {
        if let Home::Node(node) = &self.home {
            return node.users()?.change(self, node, change);
        }
        match change {
            Change::Set { name, rules } => {
                let revoked = self.acl.set(name, rules);
                let revoked =
                    revoked.map_err(|why| format!("ERR {}", why.replace(['\r', '\n'], " ")))?;
                revoked.iter().for_each(|revoked| self.revoke(revoked));
                Ok(1)
            }
            Change::Delete { names } => {
                let gone = names.iter().filter_map(|name| self.acl.delete(name));
                let gone: Vec<_> = gone.collect();
                self.expel(&gone);
                Ok(gone.len())
            }
        }
    }

    /// ACL LOAD in a cluster. Waits for etcd.
    ///
    /// # Errors
    /// The error line.
    pub fn refresh_users(&self) -> Result<(), String> {
        match &self.home {
            Home::Node(node) => node.users()?.refresh(self, node),
            Home::Standalone(_) => Ok(()),
        }
    }

    /// Does to connections what a change of the cluster's users means for them.
    pub fn follow_users(&self, changes: &Changes) {
        if !changes.gone.is_empty() {
            self.expel(&changes.gone);
        }
        let revoked = changes.revoked.iter();
        revoked.for_each(|revoked| self.revoke(revoked));
    }

    /// Why `requirepass` cannot be changed, if so.
    pub fn refuses_password(&self) -> Option<&'static str> {
        let Home::Node(node) = &self.home else {
            return None;
        };
        let cluster_has = node.users().is_ok_and(|users| users.names_the_default());
        cluster_has.then_some(DEFAULT_IS_THE_CLUSTERS)
    }

    /// Closes the connections of all who are logged in as users that are gone.
    pub fn expel(&self, gone: &[Arc<Account>]) {
        let is_gone = |client: &Client| {
            let account = client.account();
            gone.iter().any(|other| Arc::ptr_eq(other, &account))
        };
        self.dismiss(|client| is_gone(client));
    }

    /// Closes the connections of those who listen to what they may not any more.
    pub fn revoke(&self, revoked: &Revoked) {
        self.dismiss(|client| {
            Arc::ptr_eq(&client.account(), &revoked.account)
                && Kind::ALL.into_iter().any(|kind| {
                    let is_pattern = kind == Kind::Pattern;
                    let names = client.subscriptions.names(kind);
                    names
                        .iter()
                        .any(|name| !revoked.user.may_listen(name, is_pattern))
                })
        });
    }

    fn dismiss(&self, condemned: impl Fn(&Client) -> bool) {
        let clients = self.clients.iter().map(|entry| entry.value().clone());
        let condemned: Vec<Arc<Client>> = clients.filter(|client| condemned(client)).collect();
        for client in condemned {
            client.kill();
            self.pubsub().forget(&client);
        }
    }
}

/// What the system calls an error, without its number.
fn system_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}
