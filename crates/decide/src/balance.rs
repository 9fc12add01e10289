//! Which endpoint of a cluster.

use std::net::SocketAddr;

use catamaran_model::Timestamp;

use crate::decision::{By, Pick, Special};
use crate::table::Tier;
use crate::view::{Now, Sight, mix};
use crate::{Balance, Cluster, Endpoint, EndpointHealth, EndpointId};

/// Up to so many endpoints all are compared for the fewest requests in flight.
const COMPARE_ALL: usize = 64;
/// A lot or turn as a fraction of 2^64 moves on by the golden ratio: any stretch of turns is spread evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The endpoint for an attempt; `None` when there is none that may be used.
///
/// The first tier (priority) with somebody in it that is good has it. A further attempt avoids whoever was tried, prefers
/// another cluster of machines, and leaves it to first attempts to find out whether somebody is back. When nobody is good
/// in any tier, whoever is out is used, in turn.
pub(crate) fn pick(
    cluster: &Cluster,
    sight: Sight<'_>,
    tried: &[SocketAddr],
    ticket: u64,
    now: Timestamp,
) -> Option<(EndpointId, Pick, bool)> {
    let choice = Choice {
        cluster,
        sight,
        tried,
        turn: sight.turn(),
        ticket,
        now,
    };
    if tried.is_empty() && sight.is_clear() {
        let tier = cluster.tiers.first()?;
        let at = choice.take(tier, None)?;
        return Some(choice.done(tier, at, tier.members.len(), Special::None));
    }
    match tried.last() {
        None => choice.first(),
        Some(last) => choice.further(*last),
    }
}

struct Choice<'a> {
    cluster: &'a Cluster,
    sight: Sight<'a>,
    tried: &'a [SocketAddr],
    turn: u64,
    ticket: u64,
    now: Timestamp,
}

impl<'a> Choice<'a> {
    fn first(&self) -> Option<(EndpointId, Pick, bool)> {
        self.tiers(&|at| self.standing(at) != Now::Out, Special::None)
            .or_else(|| self.any(&|_| true, Special::LastWay))
    }

    fn further(&self, last: SocketAddr) -> Option<(EndpointId, Pick, bool)> {
        let untried = |at: u32| !self.tried.contains(&self.address(at));
        let good = |at: u32| self.standing(at) == Now::Good;
        for tier in &self.cluster.tiers {
            let elsewhere = |at: u32| untried(at) && good(at) && self.is_elsewhere(at);
            let found = self
                .among(tier, &elsewhere, Special::OtherCluster)
                .or_else(|| {
                    self.among(tier, &|at| untried(at) && good(at), Special::OtherEndpoint)
                });
            if found.is_some() {
                return found;
            }
        }
        let due = |at: u32| untried(at) && self.standing(at) == Now::Trial;
        let other = |at: u32| self.address(at) != last;
        self.tiers(&due, Special::OtherEndpoint)
            .or_else(|| self.any(&untried, Special::LastWay))
            .or_else(|| self.tiers(&|at| other(at) && good(at), Special::SameAgain))
            .or_else(|| self.any(&other, Special::LastWay))
            .or_else(|| self.any(&|_| true, Special::SameAgain))
    }

    fn tiers(
        &self,
        wanted: &dyn Fn(u32) -> bool,
        special: Special,
    ) -> Option<(EndpointId, Pick, bool)> {
        let mut tiers = self.cluster.tiers.iter();
        tiers.find_map(|tier| self.among(tier, wanted, special))
    }

    /// One of those wanted of all tiers, in turn: where nobody is good, no place is better than another.
    fn any(
        &self,
        wanted: &dyn Fn(u32) -> bool,
        special: Special,
    ) -> Option<(EndpointId, Pick, bool)> {
        let all: Vec<(&Tier, u32)> = self
            .cluster
            .tiers
            .iter()
            .flat_map(|tier| {
                (0u32..)
                    .zip(&tier.members)
                    .map(move |(n, at)| (tier, n, *at))
            })
            .filter(|(_, _, at)| wanted(*at))
            .map(|(tier, place, _)| (tier, place))
            .collect();
        let turn = self.turn.checked_rem(all.len() as u64)?;
        let (tier, place) = all[turn as usize];
        Some(self.done(tier, place, all.len(), special))
    }

    /// One of those wanted of a tier.
    fn among(
        &self,
        tier: &'a Tier,
        wanted: &dyn Fn(u32) -> bool,
        special: Special,
    ) -> Option<(EndpointId, Pick, bool)> {
        let places: Vec<u32> = (0u32..)
            .zip(&tier.members)
            .filter(|(_, at)| wanted(**at))
            .map(|(place, _)| place)
            .collect();
        if places.is_empty() {
            return None;
        }
        let place = self.take(tier, Some(&places))?;
        Some(self.done(tier, place, places.len(), special))
    }

    fn endpoint(&self, at: u32) -> &'a Endpoint {
        &self.cluster.endpoints()[at as usize]
    }

    fn address(&self, at: u32) -> SocketAddr {
        self.endpoint(at).address
    }

    fn standing(&self, at: u32) -> Now {
        let endpoint = self.endpoint(at);
        let via = self.cluster.via(endpoint);
        self.sight.standing(at, endpoint.address, via, self.now)
    }

    /// Whether an endpoint shares no cluster of machines with the one tried last.
    fn is_elsewhere(&self, at: u32) -> bool {
        let behind = self.cluster.behind(self.endpoint(at));
        let last = self.tried.last().and_then(|last| {
            let mut endpoints = self.cluster.endpoints().iter();
            endpoints.find(|endpoint| endpoint.address == *last)
        });
        let Some(last) = last else { return false };
        let before = self.cluster.behind(last);
        !behind.is_empty() && !before.is_empty() && !behind.iter().any(|name| before.contains(name))
    }

    /// A place in the tier, by the cluster's way of balancing; among `places`, or among all members.
    fn take(&self, tier: &Tier, places: Option<&[u32]>) -> Option<u32> {
        let count = places.map_or(tier.members.len(), <[u32]>::len);
        let place = |n: usize| places.map_or(n as u32, |places| places[n]);
        let (turn, count64) = (self.turn, count as u64);
        if count == 0 {
            return None;
        }
        let n = match (self.cluster.settings().balance, &tier.weights) {
            (Balance::RoundRobin, None) => (turn % count64) as usize,
            (Balance::Random, None) => (mix(self.ticket) % count64) as usize,
            (Balance::RoundRobin, Some(_)) => {
                let weight = |n: usize| tier.weight(place(n) as usize);
                self.share(tier, places, turn.wrapping_mul(GOLDEN), weight)
            }
            (Balance::Random, Some(_)) => {
                let weight = |n: usize| tier.weight(place(n) as usize);
                self.share(tier, places, mix(self.ticket), weight)
            }
            (Balance::LeastRequest { choices }, weights) => {
                let load = |n: usize| self.in_flight(tier, place(n));
                if count <= COMPARE_ALL.max(choices as usize) {
                    match weights {
                        None => (0..count)
                            .map(|step| ((turn + step as u64) % count64) as usize)
                            .min_by_key(|n| load(*n))?,
                        Some(_) => {
                            let weight = |n: usize| {
                                let weight = tier.weight(place(n) as usize);
                                (weight << 8) / (u64::from(load(n)) + 1)
                            };
                            let total = (0..count).map(weight).sum();
                            share(count, total, turn.wrapping_mul(GOLDEN), weight)
                        }
                    }
                } else {
                    (0..u64::from(choices))
                        .map(|step| {
                            let lot = mix(self.ticket.wrapping_mul(31).wrapping_add(step));
                            match weights {
                                None => (lot % count64) as usize,
                                Some(_) => {
                                    let weight = |n: usize| tier.weight(place(n) as usize);
                                    self.share(tier, places, lot, weight)
                                }
                            }
                        })
                        .min_by_key(|n| load(*n))?
                }
            }
        };
        Some(place(n))
    }

    fn share(
        &self,
        tier: &Tier,
        places: Option<&[u32]>,
        fraction: u64,
        weight: impl Fn(usize) -> u64,
    ) -> usize {
        let count = places.map_or(tier.members.len(), <[u32]>::len);
        let total = match places {
            None => tier.total,
            Some(_) => (0..count).map(&weight).sum(),
        };
        share(count, total, fraction, weight)
    }

    fn in_flight(&self, tier: &Tier, place: u32) -> u32 {
        let at = tier.members[place as usize];
        let known = self.sight.endpoint(at, self.address(at));
        known.map_or(0, |known| known.in_flight())
    }

    fn done(
        &self,
        tier: &Tier,
        place: u32,
        candidates: usize,
        special: Special,
    ) -> (EndpointId, Pick, bool) {
        let index = tier.members[place as usize];
        let endpoint = self.endpoint(index);
        let trial = self.standing(index) == Now::Trial;
        let special = match special {
            Special::None if trial => Special::Trial,
            special => special,
        };
        let all = self.cluster.endpoints();
        let out = if self.sight.is_clear() {
            0
        } else {
            (0u32..)
                .zip(all)
                .filter(|(_, endpoint)| endpoint.health != EndpointHealth::Unusable)
                .filter(|(at, _)| self.standing(*at) != Now::Good)
                .count()
        };
        let by = match (self.cluster.settings().balance, &tier.weights) {
            (Balance::RoundRobin, None) => By::RoundRobin,
            (Balance::RoundRobin, Some(_)) => By::WeightedRoundRobin,
            (Balance::Random, _) => By::Random,
            (Balance::LeastRequest { choices }, _) => {
                if candidates <= COMPARE_ALL.max(choices as usize) {
                    By::LeastRequests
                } else {
                    By::Choices
                }
            }
        };
        let id = EndpointId {
            index,
            address: endpoint.address,
        };
        let pick = Pick {
            index,
            total: all.len() as u32,
            candidates: candidates as u32,
            out: out as u32,
            priority: tier.priority,
            by,
            special,
        };
        (id, pick, trial)
    }
}

/// Where a fraction of the whole falls when each has its weight.
fn share(count: usize, total: u64, fraction: u64, weight: impl Fn(usize) -> u64) -> usize {
    let mut at = ((u128::from(fraction) * u128::from(total)) >> 64) as u64;
    for n in 0..count {
        match at.checked_sub(weight(n)) {
            None => return n,
            Some(rest) => at = rest,
        }
    }
    count - 1
}

#[cfg(test)]
mod tests;
