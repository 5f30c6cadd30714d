//! Cuts the raw stream of parts into blocks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{BLOCK_MAX_BYTES, FormatError};

const BLOCK_MAX: usize = BLOCK_MAX_BYTES as usize;

/// A piece of one part, at most [`BLOCK_MAX_BYTES`]; empty only as the single block of an empty part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlock {
    /// Position of the part in the snapshot's header, 0-based.
    pub part: u32,
    /// Raw bytes.
    pub data: Bytes,
}

/// A part whose bytes will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedPart {
    /// Position of the part in the snapshot's header, 0-based.
    pub part: u32,
    /// Its raw size.
    pub size_bytes: u64,
}

/// Cuts chunks into blocks: full blocks while a part lasts, its rest in a last one, never two parts in one block.
///
/// Holds at most one unfinished block. Refuses chunks out of order, of parts that were not announced, and parts
/// that turn out longer or shorter than announced.
#[derive(Debug)]
pub struct BlockSplitter {
    waiting: VecDeque<ExpectedPart>,
    received_bytes: u64,
    open: BytesMut,
    /// Buffers of former blocks, each with room for a full one.
    spare: Vec<BytesMut>,
}

impl BlockSplitter {
    /// A splitter for these parts, in this order.
    pub fn new(parts: impl IntoIterator<Item = ExpectedPart>) -> Self {
        Self {
            waiting: parts.into_iter().collect(),
            received_bytes: 0,
            open: BytesMut::new(),
            spare: Vec::new(),
        }
    }

    /// Takes back the bytes of a block for a later one, unless somebody still reads them.
    pub fn reuse(&mut self, data: Bytes) {
        if let Ok(mut buffer) = data.try_into_mut()
            && buffer.capacity() >= BLOCK_MAX
        {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Takes the next chunk of `part`; appends the blocks that it completes to `blocks`.
    pub fn push(
        &mut self,
        part: u32,
        mut data: Bytes,
        blocks: &mut Vec<RawBlock>,
    ) -> Result<(), FormatError> {
        self.close_complete(blocks);
        let current = match self.waiting.front() {
            Some(current) if current.part == part => *current,
            front => {
                return Err(FormatError::PartOrder {
                    expected: front.map_or(u32::MAX, |current| current.part),
                    found: part,
                });
            }
        };
        let received_bytes = self.received_bytes + data.len() as u64;
        if received_bytes > current.size_bytes {
            return Err(FormatError::PartSize {
                part,
                expected_bytes: current.size_bytes,
                found_bytes: received_bytes,
            });
        }
        self.received_bytes = received_bytes;
        while self.open.len() + data.len() >= BLOCK_MAX {
            let missing = BLOCK_MAX - self.open.len();
            let head = data.split_to(missing);
            let data = if self.open.is_empty() {
                head
            } else {
                self.open.extend_from_slice(&head);
                std::mem::take(&mut self.open).freeze()
            };
            blocks.push(RawBlock { part, data });
        }
        if !data.is_empty() {
            self.reserve_for_rest(current.size_bytes - received_bytes + data.len() as u64);
            self.open.extend_from_slice(&data);
        }
        self.close_complete(blocks);
        Ok(())
    }

    /// The end of the stream: every announced part must be complete.
    pub fn finish(mut self, blocks: &mut Vec<RawBlock>) -> Result<(), FormatError> {
        self.close_complete(blocks);
        match self.waiting.front() {
            None => Ok(()),
            Some(missing) => Err(FormatError::PartSize {
                part: missing.part,
                expected_bytes: missing.size_bytes,
                found_bytes: self.received_bytes,
            }),
        }
    }

    /// Closes the current part if all its bytes are here, and empty parts behind it.
    fn close_complete(&mut self, blocks: &mut Vec<RawBlock>) {
        while let Some(current) = self.waiting.front().copied() {
            if self.received_bytes < current.size_bytes {
                return;
            }
            if !self.open.is_empty() || current.size_bytes == 0 {
                blocks.push(RawBlock {
                    part: current.part,
                    data: std::mem::take(&mut self.open).freeze(),
                });
            }
            self.waiting.pop_front();
            self.received_bytes = 0;
        }
    }

    /// One allocation for a new block: a full one, or the rest of the part.
    fn reserve_for_rest(&mut self, rest_bytes: u64) {
        if self.open.is_empty() {
            let rest = usize::try_from(rest_bytes).unwrap_or(BLOCK_MAX);
            let fresh = || BytesMut::with_capacity(rest.min(BLOCK_MAX));
            self.open = self.spare.pop().unwrap_or_else(fresh);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(sizes: &[usize]) -> Vec<ExpectedPart> {
        let sized = |(part, size): (usize, &usize)| ExpectedPart {
            part: u32::try_from(part).unwrap(),
            size_bytes: *size as u64,
        };
        sizes.iter().enumerate().map(sized).collect()
    }

    #[test]
    fn an_empty_part_is_one_empty_block() {
        let mut blocks = Vec::new();
        let mut splitter = BlockSplitter::new(parts(&[0, 3, 0]));
        splitter
            .push(1, Bytes::from_static(b"abc"), &mut blocks)
            .unwrap();
        splitter.finish(&mut blocks).unwrap();
        let seen: Vec<_> = blocks.iter().map(|b| (b.part, b.data.len())).collect();
        assert_eq!(seen, [(0, 0), (1, 3), (2, 0)]);
    }

    #[test]
    fn blocks_are_full_and_never_span_parts() {
        let mut blocks = Vec::new();
        let mut splitter = BlockSplitter::new(parts(&[BLOCK_MAX * 2 + 5, BLOCK_MAX]));
        for (part, total) in [(0, BLOCK_MAX * 2 + 5), (1, BLOCK_MAX)] {
            for chunk in vec![part; total].chunks(1 << 20) {
                let data = Bytes::copy_from_slice(chunk);
                splitter.push(u32::from(part), data, &mut blocks).unwrap();
            }
        }
        splitter.finish(&mut blocks).unwrap();
        let seen: Vec<_> = blocks.iter().map(|b| (b.part, b.data.len())).collect();
        assert_eq!(
            seen,
            [(0, BLOCK_MAX), (0, BLOCK_MAX), (0, 5), (1, BLOCK_MAX)]
        );
        assert!(
            blocks
                .iter()
                .all(|b| b.data.iter().all(|x| u32::from(*x) == b.part))
        );
    }

    #[test]
    fn a_buffer_is_used_again_once_nobody_reads_it() {
        let mut blocks = Vec::new();
        let mut splitter = BlockSplitter::new(parts(&[BLOCK_MAX, BLOCK_MAX, BLOCK_MAX]));
        let mut fill = |splitter: &mut BlockSplitter, part: u8| {
            for _ in 0..2 {
                let half = Bytes::from(vec![part; BLOCK_MAX / 2]);
                splitter.push(u32::from(part), half, &mut blocks).unwrap();
            }
            blocks.pop().unwrap().data
        };
        let first = fill(&mut splitter, 0);
        let (place, still_read) = (first.as_ptr(), first.clone());
        splitter.reuse(first);
        let second = fill(&mut splitter, 1);
        assert!(still_read.iter().all(|byte| *byte == 0));
        assert_ne!(second.as_ptr(), place);
        let place = second.as_ptr();
        splitter.reuse(second);
        let third = fill(&mut splitter, 2);
        assert_eq!(third.as_ptr(), place);
        assert!(third.iter().all(|byte| *byte == 2));
    }

    #[test]
    fn parts_out_of_order_too_long_or_too_short_are_refused() {
        let data = Bytes::from_static(b"xy");
        let mut blocks = Vec::new();
        let refused = |result: Result<(), FormatError>| result.unwrap_err();

        let mut early = BlockSplitter::new(parts(&[2, 2]));
        let error = refused(early.push(1, data.clone(), &mut blocks));
        assert!(matches!(
            error,
            FormatError::PartOrder {
                expected: 0,
                found: 1
            }
        ));

        let mut long = BlockSplitter::new(parts(&[1]));
        let error = refused(long.push(0, data.clone(), &mut blocks));
        assert!(matches!(error, FormatError::PartSize { part: 0, .. }));

        let mut short = BlockSplitter::new(parts(&[3]));
        short.push(0, data.clone(), &mut blocks).unwrap();
        let error = refused(short.finish(&mut blocks));
        assert!(matches!(
            error,
            FormatError::PartSize { found_bytes: 2, .. }
        ));

        let mut after = BlockSplitter::new(parts(&[2]));
        after.push(0, data.clone(), &mut blocks).unwrap();
        assert!(after.push(0, data, &mut blocks).is_err());
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_bytes(
            sizes in prop::collection::vec(0_usize..9_000_000, 1..4),
            cut in 1_usize..3_000_000,
        ) {
            let mut blocks = Vec::new();
            let mut splitter = BlockSplitter::new(parts(&sizes));
            let content = |part: &ExpectedPart| -> Vec<u8> {
                (0..part.size_bytes).map(|i| (i.wrapping_mul(31) >> 3).to_le_bytes()[0] ^ part.part.to_le_bytes()[0]).collect()
            };
            for part in &parts(&sizes) {
                for chunk in content(part).chunks(cut) {
                    splitter.push(part.part, Bytes::copy_from_slice(chunk), &mut blocks).unwrap();
                }
            }
            splitter.finish(&mut blocks).unwrap();
            for part in &parts(&sizes) {
                let mine: Vec<_> = blocks.iter().filter(|b| b.part == part.part).collect();
                let full = part.size_bytes.div_ceil(u64::from(BLOCK_MAX_BYTES)).max(1);
                prop_assert_eq!(mine.len() as u64, full);
                prop_assert_eq!(mine.iter().flat_map(|b| b.data.to_vec()).collect::<Vec<_>>(), content(part));
            }
        }
    }
}
