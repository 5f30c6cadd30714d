//! Cuts a manifest's blocks into ranges that are worth one request each.

use std::{iter::Peekable, ops::Range};

use crate::format::{BLOCK_STORED_MAX_BYTES, BlockRef, Manifest};

/// Most stored bytes of one window: every block fits one, and compressed blocks come several at a time.
pub(super) const WINDOW_MAX_BYTES: u64 = BLOCK_STORED_MAX_BYTES as u64;

/// One block of a manifest, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pipeline) struct At {
    /// Position of the part in the manifest.
    pub(in crate::pipeline) part: usize,
    /// Position of the block in the part.
    pub(in crate::pipeline) block: usize,
}

impl At {
    pub(in crate::pipeline) fn of(self, manifest: &Manifest) -> BlockRef {
        manifest.parts[self.part].blocks[self.block]
    }
}

/// Blocks that follow each other in the snapshot and touch in one file; they may belong to several parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) blocks: Vec<At>,
    /// Position of the file in the references.
    pub(super) file: u32,
    /// Where they lie in it.
    pub(super) bytes: Range<u64>,
}

/// Every block of `parts`, in order.
pub(in crate::pipeline) fn blocks_of<'a>(
    manifest: &'a Manifest,
    parts: impl IntoIterator<Item = usize> + 'a,
) -> impl Iterator<Item = At> + 'a {
    parts.into_iter().flat_map(|part| {
        let count = manifest.parts[part].blocks.len();
        (0..count).map(move |block| At { part, block })
    })
}

/// The windows of `parts`, in order, computed as they are asked for.
pub(super) fn windows<'a>(
    manifest: &'a Manifest,
    parts: impl IntoIterator<Item = usize> + 'a,
) -> impl Iterator<Item = Window> + 'a {
    let mut rest = blocks_of(manifest, parts).peekable();
    std::iter::from_fn(move || next_window(manifest, &mut rest))
}

fn next_window(
    manifest: &Manifest,
    rest: &mut Peekable<impl Iterator<Item = At>>,
) -> Option<Window> {
    let first = rest.next()?;
    let start = first.of(manifest);
    let mut window = Window {
        blocks: vec![first],
        file: start.file,
        bytes: start.offset_bytes..start.end_bytes(),
    };
    while let Some(next) = rest.next_if(|next| window.takes(next.of(manifest))) {
        window.bytes.end = next.of(manifest).end_bytes();
        window.blocks.push(next);
    }
    Some(window)
}

impl Window {
    pub(super) fn len_bytes(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    fn takes(&self, block: BlockRef) -> bool {
        block.file == self.file
            && block.offset_bytes == self.bytes.end
            && block.end_bytes() - self.bytes.start <= WINDOW_MAX_BYTES
    }
}
