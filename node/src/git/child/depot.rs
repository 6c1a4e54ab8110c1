//! The mirror, opened for this process: a bare repository that keeps the objects of one URL and of
//! its submodules.

use super::Trouble;
use super::meter::Meter;
use super::network::Network;
use super::remote::{self, Wanted};
use super::server;
use super::talk::Talk;
use crate::git::error::FetchError;
use crate::git::mirror;
use crate::git::order::FetchOrder;
use git2::{Odb, Oid, Repository};
use shared::source::GitUrl;
use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;

/// The mirror and what is needed to fill it.
pub(super) struct Depot {
    pub(super) repo: Repository,
    order: FetchOrder,
    talk: Talk,
    meter: Arc<Meter>,
    network: OnceCell<Network>,
    path: PathBuf,
    fresh: bool,
}

impl Depot {
    /// Opens the mirror of the order's URL, or makes an empty one. Its lock must be held alone.
    pub(super) fn open(
        order: &FetchOrder,
        talk: &Talk,
        meter: Arc<Meter>,
    ) -> Result<Self, FetchError> {
        let node = |error: std::io::Error| FetchError::node("opening the mirror", error);
        let path = mirror::path(&order.mirror_dir, &order.url);
        let packs = mirror::tidy(&path).map_err(node)?;
        let kept = !packs.are_too_much(order.limits.received_bytes);
        let opened = if kept {
            Repository::open_bare(&path).ok()
        } else {
            None
        };
        let fresh = opened.is_none();
        let repo = match opened {
            Some(repo) => repo,
            None => {
                mirror::remove_dir(&path).map_err(node)?;
                server::init(&path)
                    .map_err(|error| FetchError::node("making a mirror", error.message()))?
            }
        };
        Ok(Self {
            repo,
            order: order.clone(),
            talk: talk.clone(),
            meter,
            network: OnceCell::new(),
            path,
            fresh,
        })
    }

    /// Whether it was empty when it was opened.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Removes the mirror.
    pub(super) fn remove(self) -> Result<(), FetchError> {
        mirror::remove_dir(&self.path)
            .map_err(|error| FetchError::node("removing a damaged mirror", error))
    }

    pub(super) fn order(&self) -> &FetchOrder {
        &self.order
    }

    pub(super) fn talk(&self) -> &Talk {
        &self.talk
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The objects.
    pub(super) fn odb(&self) -> Result<Odb<'_>, Trouble> {
        self.repo.odb().map_err(|error| Trouble::damaged(&error))
    }

    /// The network, made when the first server is asked: a commit that is here needs none.
    pub(super) fn network(&self) -> Result<&Network, FetchError> {
        if let Some(network) = self.network.get() {
            return Ok(network);
        }
        let network = Network::new(self.order.policy.guard.clone(), self.meter.clone())
            .map_err(|error| FetchError::node("starting the network", error))?;
        Ok(self.network.get_or_init(|| network))
    }

    /// The id of the wanted commit, which is in the mirror afterwards.
    pub(super) fn commit(&self, url: &GitUrl, wanted: &Wanted) -> Result<Oid, Trouble> {
        if let Some(id) = wanted.commit_id()
            && self.holds(id)
        {
            return Ok(id);
        }
        remote::obtain(self, url, wanted)
    }

    /// Whether a commit and its tree are here.
    pub(super) fn holds(&self, commit: Oid) -> bool {
        self.repo
            .find_commit(commit)
            .and_then(|commit| commit.tree())
            .is_ok()
    }
}
