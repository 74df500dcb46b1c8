//! The verbs, a file each: read, check, change in one transaction, show.

mod follow;
mod group;
mod init;
mod node;
mod plans;
mod reshard;
mod slots;
mod status;

use std::process::ExitCode;

use anyhow::Context;
use cairn_protocol::topology::{StoreConfig, StoreError, Topology, TopologyStore};

pub(crate) use init::new_cluster_id;

use crate::cli::{Cli, ReshardVerb, Verb};
use crate::output::Printer;
use crate::{exit, playground};

/// What every verb works with.
struct Session {
    store: TopologyStore,
    out: Printer,
}

/// Runs one verb.
///
/// # Errors
/// What was refused or failed, with what to do next.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let out = Printer { json: cli.json };
    if let Verb::Playground(args) = cli.verb {
        return playground::run(&args, &cli.cluster, out)
            .await
            .map(Into::into);
    }
    let store = TopologyStore::connect(StoreConfig::new(&cli.cluster, &cli.etcd)).await?;
    let session = Session { store, out };
    let code = match cli.verb {
        Verb::Init(args) => init::run(&session, &args).await?,
        Verb::Node(verb) => node::run(&session, verb).await?,
        Verb::Group(verb) => group::run(&session, verb).await?,
        Verb::Slots => slots::run(&session).await?,
        Verb::Status => status::run(&session).await?,
        Verb::Reshard(args) => match args.action {
            None => reshard::run(&session, args).await?,
            Some(ReshardVerb::Status { plan, follow }) => {
                plans::status(&session, plan, follow).await?
            }
            Some(ReshardVerb::Pause { plan }) => plans::pause(&session, plan).await?,
            Some(ReshardVerb::Resume { plan }) => plans::resume(&session, plan).await?,
            Some(ReshardVerb::Abort { plan }) => plans::abort(&session, plan).await?,
        },
        Verb::Playground(_) => exit::FAILED,
    };
    Ok(code.into())
}

impl Session {
    /// The cluster's topology; an error if there is no such cluster.
    async fn topology(&self) -> anyhow::Result<Topology> {
        let listed = self.store.list().await;
        let topology = listed.with_context(|| self.etcd_hint())?;
        match topology.cluster {
            Some(_) => Ok(topology),
            None => Err(StoreError::NoCluster(self.store.cluster().into()).into()),
        }
    }

    /// For errors of etcd calls.
    fn etcd_hint(&self) -> String {
        format!(
            "etcd at {} (is it running? --etcd says where)",
            self.store.endpoints().join(",")
        )
    }

    /// A change's outcome, with what to do when it is not known.
    fn changed<T>(&self, result: Result<T, StoreError>) -> anyhow::Result<T> {
        result.map_err(|error| match error.is_definite() {
            true => error.into(),
            false => anyhow::Error::new(error)
                .context("it is not known whether the change was made: look before trying again")
                .context(self.etcd_hint()),
        })
    }
}
