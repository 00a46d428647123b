//! Where a command belongs: the rules for MOVED, ASK, TRYAGAIN and ASKING are the cluster
//! specification's ("Redirection and resharding") and those of `getNodeByQuery` in `cluster.c`.

use keyslot_core::slot::Slot;

use super::super::store::Source;
use super::{Condition, Migration, NOBODY, Servers, Session};

impl Servers {
    /// The state of the keys that a node runs a command on, or the error that it answers instead.
    pub(in super::super) fn place(
        &self,
        session: &Session,
        keys: &[Vec<u8>],
        writes: bool,
    ) -> Result<Source, String> {
        let here = session.node;
        let node = &self.nodes[here];
        let slot = Slot::of_key(&keys[0]).number();
        if keys.iter().any(|key| Slot::of_key(key).number() != slot) && self.dialect.cluster {
            return Err("CROSSSLOT Keys in request don't hash to the same slot".into());
        }
        if let Some(lie) = node.lies.get(&slot) {
            // An address that is never the same, so that the client must not remember them all.
            return Err(lie.replace('*', &(10_000 + self.commands_seen % 50_000).to_string()));
        }
        match node.condition {
            Condition::ClusterDown => return Err("CLUSTERDOWN The cluster is down".into()),
            Condition::MasterDown => {
                return Err(
                    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.".into(),
                );
            }
            Condition::ReadOnly if writes => {
                return Err("READONLY You can't write against a read only replica.".into());
            }
            Condition::Normal | Condition::Loading | Condition::ReadOnly => {}
        }
        let is_stale = node.stale_before.is_some_and(|before| session.made_at < before);
        match self.dialect.cluster {
            true if is_stale => return Err(self.redirect_text("MOVED", slot, here)),
            false if is_stale && writes => {
                return Err("READONLY You can't write against a read only replica.".into());
            }
            _ => {}
        }
        if !self.dialect.cluster || self.balancer.is_some() {
            return Ok(Source::Primary);
        }
        let owner = node.view.owners[usize::from(slot)];
        if owner == NOBODY {
            return Err("CLUSTERDOWN Hash slot not served".into());
        }
        if self.says_down(here) {
            return Err("CLUSTERDOWN The cluster is down".into());
        }
        self.place_of_owned(session, keys, writes, usize::from(owner))
    }

    /// As [`Self::place`] at a node that serves: it knows the slot's owner.
    fn place_of_owned(
        &self,
        session: &Session,
        keys: &[Vec<u8>],
        writes: bool,
        owner: usize,
    ) -> Result<Source, String> {
        let here = session.node;
        let node = &self.nodes[here];
        let slot = Slot::of_key(&keys[0]).number();
        let migration = self.migrations.get(&slot);
        let missing = |migration: &Migration| {
            keys.iter().filter(|key| self.location(key, migration) != Some(here)).count()
        };
        let try_again = || "TRYAGAIN Multiple keys request during rehashing of slot".to_string();
        if owner == here && node.view.replica_of[here].is_none() {
            if self.owner(slot) != here {
                return Ok(Source::Fork(here));
            }
            let Some(migration) = migration.filter(|migration| migration.from == here) else {
                return Ok(Source::Primary);
            };
            return match missing(migration) {
                0 => Ok(Source::Primary),
                missing if missing == keys.len() => Err(self.redirect_text("ASK", slot, migration.to)),
                _ => Err(try_again()),
            };
        }
        if session.asking
            && let Some(migration) = migration.filter(|migration| migration.to == here)
        {
            let is_split = keys.len() > 1 && missing(migration) > 0;
            return if is_split { Err(try_again()) } else { Ok(Source::Primary) };
        }
        if session.readonly && !writes && node.view.replica_of[here] == Some(owner) {
            return Ok(Source::Replica { applied: node.applied });
        }
        Err(self.redirect_text("MOVED", slot, owner))
    }

    /// `MOVED 3999 10.0.0.2:7001`.
    pub(crate) fn redirect_text(&self, code: &str, slot: u16, to: usize) -> String {
        let node = &self.nodes[to];
        let host = if self.dialect.empty_hosts { "" } else { node.announced.as_ref().unwrap_or(&node.host) };
        format!("{code} {slot} {host}:{}", node.address.port())
    }

    /// Which of a migration's two nodes has the key; `None` when it does not exist.
    pub(in super::super) fn location(&self, key: &[u8], migration: &Migration) -> Option<usize> {
        self.store.value(Source::Primary, key)?;
        let hash = key.iter().fold(17u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let moved = self.created_at_target.contains(key) || (hash >> 3) % 100 < migration.progress;
        Some(if moved { migration.to } else { migration.from })
    }
}
