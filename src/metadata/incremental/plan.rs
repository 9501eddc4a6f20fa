//! Which chunks are written anew for a change, and with which packages. Nothing is read or written here.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Chunk, Row};
use crate::sys::rpm::Stat;

/// Packages of a full chunk. Fewer make the lists larger, more make each change dearer.
pub const FULL: usize = 64;
/// A chunk that is left with fewer is given up: they go where new ones go.
const FEW: usize = 16;

/// A file to be read and listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub location: String,
    pub stat: Stat,
    /// Its digest, where it is known.
    pub sha256: Option<String>,
}

/// A package of a chunk that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Its fragments stand in a chunk of the last state, from these bytes on.
    Kept {
        row: Row,
        from: [usize; 3],
    },
    Fresh(Candidate),
}

/// A chunk to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub id: i64,
    pub items: Vec<Item>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub units: Vec<Unit>,
    /// Chunks that are no more.
    pub dropped: BTreeSet<i64>,
}

/// `gone` are packages of the last state that are no more, or are to be read anew. `packages` tells those of a chunk,
/// in their order.
pub fn plan<E>(
    chunks: &[Chunk],
    gone: &[Row],
    fresh: Vec<Candidate>,
    mut packages: impl FnMut(i64) -> Result<Vec<Row>, E>,
) -> Result<Plan, E> {
    let mut plan = Plan::default();
    let mut rewritten: BTreeMap<i64, Vec<Item>> = BTreeMap::new();
    let mut pool: Vec<Item> = Vec::new();
    let leaving: BTreeSet<&str> = gone.iter().map(|row| row.location.as_str()).collect();
    for id in gone.iter().map(|row| row.chunk).collect::<BTreeSet<_>>() {
        let left = left(packages(id)?, &leaving);
        if left.len() < FEW {
            plan.dropped.insert(id);
            pool.extend(left);
        } else {
            rewritten.insert(id, left);
        }
    }
    pool.extend(fresh.into_iter().map(Item::Fresh));
    let last = chunks.iter().rfind(|chunk| !plan.dropped.contains(&chunk.id));
    if let Some(last) = last.filter(|last| !pool.is_empty() && last.packages < FULL) {
        let items = match rewritten.remove(&last.id) {
            Some(items) => items,
            None => left(packages(last.id)?, &leaving),
        };
        let room = FULL.saturating_sub(items.len()).min(pool.len());
        rewritten.insert(last.id, items.into_iter().chain(pool.drain(..room)).collect());
    }
    let mut next = chunks.last().map_or(0, |chunk| chunk.id + 1);
    while !pool.is_empty() {
        rewritten.insert(next, pool.drain(..pool.len().min(FULL)).collect());
        next += 1;
    }
    plan.units = rewritten.into_iter().map(|(id, items)| Unit { id, items }).collect();
    Ok(plan)
}

/// Of the packages of a chunk, those that stay.
fn left(rows: Vec<Row>, leaving: &BTreeSet<&str>) -> Vec<Item> {
    let mut from = [0; 3];
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let here = from;
        for (from, length) in from.iter_mut().zip(row.lengths) {
            *from += length;
        }
        if !leaving.contains(row.location.as_str()) {
            items.push(Item::Kept { row, from: here });
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn row(chunk: i64, place: usize) -> Row {
        let stat = Stat { size: 1, mtime: 1 };
        let location = format!("{chunk}-{place}");
        Row { location, stat, sha256: String::new(), chunk, place, lengths: [10, 20, 30] }
    }

    fn rows(chunk: i64, packages: usize) -> Vec<Row> {
        (0..packages).map(|place| row(chunk, place)).collect()
    }

    fn chunk(id: i64, packages: usize) -> Chunk {
        Chunk { id, packages, packed: [0; 3], open: [0; 3] }
    }

    fn fresh(count: usize) -> Vec<Candidate> {
        let stat = Stat { size: 1, mtime: 1 };
        (0..count).map(|n| Candidate { location: format!("new-{n}"), stat, sha256: None }).collect()
    }

    /// Ids and sizes of the chunks that are written, and the ids of those dropped.
    fn planned(sizes: &[usize], gone: &[Row], new: usize) -> (Vec<(i64, usize)>, Vec<i64>) {
        let chunks: Vec<Chunk> = sizes.iter().zip(0..).map(|(size, id)| chunk(id, *size)).collect();
        let packages = |id: i64| Ok::<_, Infallible>(rows(id, sizes[usize::try_from(id).unwrap()]));
        let plan = plan(&chunks, gone, fresh(new), packages).unwrap();
        let sizes = plan.units.iter().map(|unit| (unit.id, unit.items.len())).collect();
        (sizes, plan.dropped.into_iter().collect())
    }

    #[test]
    fn what_is_new_fills_the_last_chunk_and_then_others() {
        assert_eq!(planned(&[], &[], 0), (vec![], vec![]));
        assert_eq!(planned(&[], &[], 130), (vec![(0, 64), (1, 64), (2, 2)], vec![]));
        assert_eq!(planned(&[64, 10], &[], 1), (vec![(1, 11)], vec![]));
        assert_eq!(planned(&[64, 63], &[], 3), (vec![(1, 64), (2, 2)], vec![]));
        assert_eq!(planned(&[64, 64], &[], 1), (vec![(2, 1)], vec![]));
    }

    #[test]
    fn what_is_gone_has_its_chunk_written_anew_and_a_small_rest_moves() {
        assert_eq!(planned(&[64, 64, 5], &[row(0, 3)], 0), (vec![(0, 63)], vec![]));
        assert_eq!(planned(&[20, 64, 5], &rows(0, 10), 0), (vec![(2, 15)], vec![0]));
        assert_eq!(planned(&[64], &rows(0, 64), 0), (vec![], vec![0]));
        assert_eq!(planned(&[64, 20], &[row(1, 0)], 2), (vec![(1, 21)], vec![]));
    }

    #[test]
    fn what_stays_is_found_where_it_stood() {
        let chunks = [chunk(0, 20)];
        let packages = |id| Ok::<_, Infallible>(rows(id, 20));
        let plan = plan(&chunks, &[row(0, 0)], Vec::new(), packages).unwrap();
        assert_eq!(plan.units[0].items[1], Item::Kept { row: row(0, 2), from: [20, 40, 60] });
    }
}
