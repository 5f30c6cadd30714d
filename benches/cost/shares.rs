//! Cores as deploy/ shares them out: a sidecar gets a fifth of what its broker gets while both want more
//! (`CPUWeight=20` beside 100, requests of 100m beside 500m). Each process is in a control group of its own, as on a host.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process,
};

use chronik_harness::Binaries;

/// Where systems mount the controller: version 1, its file and the weights of broker and sidecar; then version 2.
const CONTROLLERS: [(&str, &str, [u32; 2]); 2] = [
    ("/sys/fs/cgroup/cpu", "cpu.shares", [1024, 205]),
    ("/sys/fs/cgroup", "cpu.weight", [100, 20]),
];

/// Programs that put themselves into control groups.
pub struct Shares {
    dir: PathBuf,
    controller: PathBuf,
    file: &'static str,
    weights: [u32; 2],
}

impl Shares {
    /// Fails where control groups cannot be made; `dir` is for scripts.
    pub fn new(dir: &Path) -> Result<Self, String> {
        let mut reasons = Vec::new();
        // Version 2 gives the controller only to groups whose parent hands it down; on version 1 there is no such file.
        let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu");
        for (controller, file, weights) in CONTROLLERS {
            let shares = Self {
                dir: dir.to_owned(),
                controller: controller.into(),
                file,
                weights,
            };
            let probe = shares.group("probe");
            let made = fs::create_dir(&probe).and_then(|()| fs::write(probe.join(file), "100"));
            let _ = fs::remove_dir(&probe);
            match made {
                Ok(()) => return Ok(shares),
                Err(error) => reasons.push(format!("{controller}/*/{file}: {error}")),
            }
        }
        Err(reasons.join("; "))
    }

    /// Has every broker and every sidecar run in a group of its own.
    pub fn apply(&self, binaries: &mut Binaries) {
        let [broker, sidecar] = self.weights;
        binaries.broker = self.script("broker", &binaries.broker, broker);
        binaries.sidecar = self.script("sidecar", &binaries.sidecar, sidecar);
    }

    fn group(&self, suffix: &str) -> PathBuf {
        let name = format!("chronik-bench-{}-{suffix}", process::id());
        self.controller.join(name)
    }

    /// A script that becomes the program, with the same process id.
    fn script(&self, name: &str, program: &Path, weight: u32) -> PathBuf {
        let text = format!(
            "#!/bin/sh\nset -e\ngroup={}-$$\nmkdir $group\necho {weight} > $group/{}\necho $$ > $group/cgroup.procs\nexec '{}' \"$@\"\n",
            self.group(name).display(),
            self.file,
            program.display()
        );
        let path = self.dir.join(name);
        fs::create_dir_all(&self.dir).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        let ours = format!("chronik-bench-{}-", process::id());
        let groups = fs::read_dir(&self.controller).into_iter().flatten();
        for group in groups.flatten() {
            if group.file_name().to_string_lossy().starts_with(&ours) {
                // Empty once its process has ended.
                let _ = fs::remove_dir(group.path());
            }
        }
    }
}
