//! Making an empty image: header, refcount table and blocks, an empty L1 table.

use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

use super::chain::{Node, open_backing, resolve};
use super::header::{EXT_BACKING_FORMAT, L1_LIMIT, MAGIC, NAME_LIMIT, TABLE_LIMIT};
use super::storage::FileId;
use crate::base::bytes::{put_be16, put_be32, put_be64};
use crate::base::{Error, Kind, Result};
use crate::disk::lock::ImageLock;
use crate::disk::{CreateOptions, Format};

const DEFAULT_CLUSTER: u64 = 64 << 10;

/// The image to be made, counted in clusters: header, refcount table, refcount blocks, L1 table.
struct Plan {
    version: u32,
    cluster_bits: u32,
    size: u64,
    l1_size: u64,
    l1_clusters: u64,
    table_clusters: u64,
    blocks: u64,
}

/// Makes an empty image, replacing what is there: version 3 with 64 KiB clusters and 16-bit refcounts, or
/// what the options say. Without a size it takes the backing file's.
///
/// # Errors
/// Options that are unknown or do not fit each other, a backing file that is missing or is the image itself,
/// an image in use.
pub fn create(path: &Path, options: &CreateOptions) -> Result<()> {
    let version = match options.compat.as_deref() {
        None | Some("1.1") => 3,
        Some("0.10") => 2,
        Some(other) => {
            return Err(Error::usage(format!("a qcow2 image has no compat '{other}'")).hint("use 0.10 or 1.1"));
        }
    };
    match options.preallocation.as_deref() {
        None | Some("off" | "sparse") => {}
        Some(other @ ("metadata" | "falloc" | "full")) => {
            return Err(Error::unsupported(format!("qcow2: preallocation '{other}'"))
                .hint("qemu-img create -o preallocation=... makes such an image"));
        }
        Some(other) => {
            return Err(Error::usage(format!("a qcow2 image has no preallocation '{other}'")).hint("use off"));
        }
    }
    let cluster = options.cluster_size.unwrap_or(DEFAULT_CLUSTER);
    if !cluster.is_power_of_two() || !(512..=2 << 20).contains(&cluster) {
        return Err(Error::usage(format!("cluster size {cluster} is no power of two between 512 and 2097152")));
    }
    let below = backing(path, options)?;
    let size = match (options.size, below) {
        (Some(size), _) | (None, Some(size)) => size.checked_next_multiple_of(512),
        (None, None) => return Err(Error::usage("a qcow2 image needs a size or a backing file")),
    };
    let plan = Plan::new(version, cluster, size.ok_or(Kind::FileTooBig)?)?;
    let header = plan.header(options)?;
    write(path, &plan, &header)
}

/// Checks the backing file and gives its size.
fn backing(path: &Path, options: &CreateOptions) -> Result<Option<u64>> {
    let Some(name) = &options.backing else {
        return match options.backing_format {
            Some(_) => Err(Error::usage("a backing format without a backing file")),
            None => Ok(None),
        };
    };
    let Some(format) = options.backing_format else {
        return Err(Error::usage(format!("the format of backing file {} is not given", name.display()))
            .hint("give backingformat: raw or qcow2"));
    };
    if name.as_os_str().len() > NAME_LIMIT as usize {
        return Err(Error::from(Kind::NameTooLong).at(name.display()));
    }
    let place = resolve(path, name.as_os_str().as_bytes(), "backing file")?;
    let below = FileId::of(&place)?;
    if FileId::of(path).is_ok_and(|id| id == below) {
        return Err(Error::new(Kind::Invalid, "would be its own backing file").at(path.display()));
    }
    open_backing(&place, Some(word(format).as_bytes()), &mut Vec::new()).map(|node: Node| Some(node.len()))
}

fn word(format: Format) -> &'static str {
    match format {
        Format::Raw => "raw",
        Format::Qcow2 => "qcow2",
    }
}

impl Plan {
    fn new(version: u32, cluster: u64, size: u64) -> Result<Self> {
        let l1_size = size.div_ceil(cluster * (cluster / 8));
        if l1_size * 8 > L1_LIMIT || i64::try_from(size).is_err() {
            return Err(Error::new(
                Kind::FileTooBig,
                format!("{size} bytes are too many for clusters of {cluster} bytes"),
            )
            .hint("give a bigger clustersize"));
        }
        let l1_clusters = (l1_size * 8).div_ceil(cluster).max(1);
        let (mut table_clusters, mut blocks) = (1, 1);
        // The blocks count themselves and their table; both only grow, and by less than they cover.
        loop {
            let all = 1 + table_clusters + blocks + l1_clusters;
            let (need, table) = (all.div_ceil(cluster / 2), (blocks * 8).div_ceil(cluster));
            if need <= blocks && table <= table_clusters {
                break;
            }
            (blocks, table_clusters) = (need.max(blocks), table.max(table_clusters));
        }
        if table_clusters * cluster > TABLE_LIMIT {
            return Err(Error::from(Kind::FileTooBig));
        }
        let cluster_bits = cluster.trailing_zeros();
        Ok(Plan { version, cluster_bits, size, l1_size, l1_clusters, table_clusters, blocks })
    }

    fn clusters(&self) -> u64 {
        1 + self.table_clusters + self.blocks + self.l1_clusters
    }

    /// The header cluster.
    fn header(&self, options: &CreateOptions) -> Result<Vec<u8>> {
        let bits = self.cluster_bits;
        let mut header = vec![0; 1 << bits];
        put_be32(&mut header, 0, MAGIC);
        put_be32(&mut header, 4, self.version);
        put_be32(&mut header, 20, bits);
        put_be64(&mut header, 24, self.size);
        put_be32(&mut header, 36, self.l1_size as u32);
        put_be64(&mut header, 40, (1 + self.table_clusters + self.blocks) << bits);
        put_be64(&mut header, 48, 1 << bits);
        put_be32(&mut header, 56, self.table_clusters as u32);
        let mut at = 72;
        if self.version == 3 {
            at = 112;
            put_be32(&mut header, 96, 4);
            put_be32(&mut header, 100, at as u32);
        }
        if let (Some(name), Some(format)) = (&options.backing, options.backing_format) {
            let (name, format) = (name.as_os_str().as_bytes(), word(format).as_bytes());
            put_be32(&mut header, at, EXT_BACKING_FORMAT);
            put_be32(&mut header, at + 4, format.len() as u32);
            put_be64(&mut header, 8, at as u64 + 24);
            put_be32(&mut header, 16, name.len() as u32);
            for (start, bytes) in [(at + 8, format), (at + 24, name)] {
                header
                    .get_mut(start..start + bytes.len())
                    .ok_or_else(|| {
                        Error::new(Kind::NameTooLong, "the backing file's name does not fit into a cluster")
                    })?
                    .copy_from_slice(bytes);
            }
        }
        Ok(header)
    }

    /// Refcount table, blocks and L1 table.
    fn tables(&self) -> Vec<u8> {
        let size = 1usize << self.cluster_bits;
        let table = self.table_clusters as usize * size;
        let mut bytes = vec![0; (self.clusters() as usize - 1) * size];
        for block in 0..self.blocks {
            put_be64(&mut bytes, block as usize * 8, (1 + self.table_clusters + block) << self.cluster_bits);
        }
        for cluster in 0..self.clusters() as usize {
            put_be16(&mut bytes, table + cluster * 2, 1);
        }
        bytes
    }
}

fn write(path: &Path, plan: &Plan, header: &[u8]) -> Result<()> {
    use std::os::unix::fs::FileExt;
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::new(Kind::Invalid, "exists and is not a regular file").at(path.display()));
    }
    let new = !path.exists();
    let at = |e: std::io::Error| Error::io(path.display(), e);
    let mut opening = OpenOptions::new();
    let opening = opening.read(true).write(true).create(true).truncate(false);
    let file = opening.custom_flags(libc::O_NONBLOCK).open(path).map_err(at)?;
    // Not while a guest uses the old image.
    let _lock = ImageLock::write(&file, path)?;
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all_at(&plan.tables(), 1 << plan.cluster_bits))
        .and_then(|()| file.write_all_at(header, 0));
    written.map_err(at).inspect_err(|_| {
        if new {
            // The first error is the one to tell.
            std::fs::remove_file(path).ok();
        }
    })
}
