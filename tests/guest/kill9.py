#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kill9.py LODGE BUILD [ROUNDS]: kills lodge-vm at random moments under a guest that writes to a file system in a qcow2 image. Each time the image must be
clean (leaked clusters aside, which cost room and no data), the file system must be mended by its journal alone, and what the guest had synced must be there."""
import os, random, re, signal, subprocess, sys, tempfile, time

lodge, build, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 200
work = tempfile.mkdtemp(prefix='lodge-kill9-')
seed = int(os.environ.get('SEED', time.time()))
rng = random.Random(seed)
print(f'seed {seed}')

def run(*cmd, ok=(0,)):
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode not in ok:
        sys.exit(f'{" ".join(cmd)}: status {r.returncode}\n{r.stdout}')
    return r

def check(image):
    """The image's damage. A request that was under way keeps the dead program's lock for a moment more: the kernel takes it back by itself."""
    end = time.time() + 120
    while True:
        r = run('qemu-img', 'check', '-q', image, ok=(0, 1, 3)) # 3: leaks
        if r.returncode != 1 or 'lock' not in r.stdout or time.time() > end:
            break
        time.sleep(0.05)
    if r.returncode == 1:
        sys.exit(f'qemu-img check {image}:\n{r.stdout}')
    return r.returncode

# Each loop writes a file of its number, syncs, and says so; the names that were said must be there afterwards.
SHELL = '''#!/bin/sh
export PATH=/bin
mount -t ext4 /dev/vda /mnt || { echo "NO MOUNT"; poweroff -f; }
rm -rf /mnt/r*
mkdir /mnt/r$ROUND
i=0
echo READY
while :; do
    i=$((i + 1))
    dd if=/dev/urandom of=/mnt/r/$i bs=4k count=$((i % 50 + 1)) 2>/dev/null
    [ $((i % 5)) -ne 0 ] || rm -f /mnt/r/$((i - 3)) 
    sync
    echo "SYNCED $i"
done
'''.replace('/r$ROUND', '/r')

def main():
    add = f'{work}/add/etc'
    os.makedirs(add)
    with open(f'{add}/shell', 'w') as f:
        f.write(SHELL)
    os.chmod(f'{add}/shell', 0o755)
    run('tests/guest/with_modules.sh', 'linux-image-cloud-amd64', work)
    raw, image = f'{work}/disk.raw', f'{work}/disk.qcow2'
    with open(raw, 'wb') as f:
        f.truncate(256 << 20)
    run('mke2fs', '-q', '-t', 'ext4', '-F', raw)
    run(lodge, 'image', 'convert', '-f', 'raw', '-O', 'qcow2', raw, image)
    killed = total = 0
    for n in range(rounds):
        vm = subprocess.Popen([lodge, 'run', '--accel', 'softkvm', '--kernel', f'{work}/vmlinuz', '--initrd', f'{work}/initrd.gz', '--append',
                               'console=ttyS0 quiet', '--memory', '192M', '--net', 'none', '--disk', f'file={image},format=qcow2'],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(vm.stdout.fileno(), False)
        out, start, limit = b'', time.time(), None
        while True:
            out += vm.stdout.read() or b''
            if limit is None and b'READY' in out:
                limit = time.time() + rng.uniform(0, 3)
            if vm.poll() is not None or time.time() - start > 180:
                sys.exit(f'round {n}: the guest did not come up:\n{out.decode(errors="replace")[-2000:]}')
            if limit and time.time() > limit:
                break
            time.sleep(0.01)
        vm.send_signal(signal.SIGKILL)
        vm.wait()
        out += vm.stdout.read() or b''
        killed += 1
        synced = [int(x) for x in re.findall(rb'SYNCED (\d+)\r?\n', out)]
        # 3: leaks, which the check is then asked to give back; anything else is damage.
        if check(image) == 3:
            run('qemu-img', 'check', '-q', '-r', 'leaks', image)
        # Lodge's check also names clusters behind the file's end that were counted ahead of their use.
        if run(lodge, 'image', 'check', '-f', 'qcow2', image, ok=(0, 3)).returncode == 3:
            run(lodge, 'image', 'check', '-r', 'leaks', '-f', 'qcow2', image)
        run(lodge, 'image', 'check', '-f', 'qcow2', image)
        run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, raw)
        run('e2fsck', '-p', raw, ok=(0, 1))
        run('e2fsck', '-f', '-n', raw)
        total += len(synced)
        if synced:
            listing = run('debugfs', '-R', 'ls -p /r', raw).stdout
            names = set(re.findall(r'/(\d+)/\d*/$', listing, re.M)) | set(x.split('/')[5] for x in listing.splitlines() if x.count('/') >= 6)
            last = max(synced)
            # What the guest has said since may still have been in the dead process; its files tell how far it came.
            reached = max([last] + [int(x) for x in names if x.isdigit()])
            for i in range(1, last + 1):
                removed = i % 5 == 2 and i + 3 <= reached + 1
                if not removed and str(i) not in names:
                    sys.exit(f'round {n}: file {i} was synced and is gone; {last} were synced; there are {" ".join(sorted(names))}')
    if not total:
        sys.exit('no round came as far as a sync')
    print(f'{killed} kills, {total} syncs, images clean, file systems mended, nothing lost that was synced')

try:
    main()
finally:
    subprocess.run(['rm', '-rf', work])
