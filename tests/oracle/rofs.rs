//! Makes ROFS images as OSv's generator does (docs/formats/rofs.md).

use std::path::Path;

/// What the generator collects.
#[derive(Default)]
struct Maker {
    files: Vec<u8>,
    entries: Vec<(u64, Vec<u8>)>,
    links: Vec<Vec<u8>>,
    /// Mode, place, count.
    inodes: Vec<[u64; 3]>,
}

/// The image of a host folder.
pub fn image(root: &Path) -> Vec<u8> {
    let mut maker = Maker { files: vec![0; 512], ..Maker::default() };
    maker.inodes.push([0x4000, 0, 0]);
    let (place, count) = maker.directory(root);
    maker.inodes[0] = [0x4000, place, count];
    maker.written()
}

impl Maker {
    /// Answers the place and number of the directory's entries.
    fn directory(&mut self, folder: &Path) -> (u64, u64) {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let mut own = Vec::new();
        for name in names {
            let path = folder.join(&name);
            self.inodes.push([0; 3]);
            let index = self.inodes.len() - 1;
            let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
            self.inodes[index] = if kind.is_dir() {
                let (place, count) = self.directory(&path);
                [0x4000, place, count]
            } else if kind.is_symlink() {
                self.links.push(std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
                [0xa000, self.links.len() as u64 - 1, 1]
            } else {
                let content = std::fs::read(&path).unwrap();
                let place = self.files.len() as u64 / 512;
                self.files.extend(&content);
                self.files.resize(self.files.len().next_multiple_of(512), 0);
                [0x8000, place, content.len() as u64]
            };
            own.push((index as u64 + 1, name.into_encoded_bytes()));
        }
        let place = self.entries.len() as u64;
        let count = own.len() as u64;
        self.entries.extend(own);
        (place, count)
    }

    fn written(self) -> Vec<u8> {
        let mut area = Vec::new();
        let text = |area: &mut Vec<u8>, text: &[u8]| {
            area.extend((text.len() as u16).to_le_bytes());
            area.extend(text);
        };
        for (inode, name) in &self.entries {
            area.extend(inode.to_le_bytes());
            text(&mut area, name);
        }
        self.links.iter().for_each(|target| text(&mut area, target));
        for (index, [mode, place, count]) in self.inodes.iter().enumerate() {
            area.extend([*mode, index as u64 + 1, *place, *count].map(u64::to_le_bytes).concat());
        }
        area.resize(area.len().next_multiple_of(512), 0);
        let (first, blocks) = (self.files.len() / 512, area.len() / 512);
        let counts = [self.entries.len(), self.links.len(), self.inodes.len()];
        let words = [&[0xdead_bead, 1, 512, first, blocks][..], &counts].concat();
        let mut image = self.files;
        for (index, word) in words.into_iter().enumerate() {
            image[index * 8..][..8].copy_from_slice(&(word as u64).to_le_bytes());
        }
        image.extend(area);
        image
    }
}
