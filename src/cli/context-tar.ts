/** A folder as a tar stream: the context of a build. */
import { createReadStream } from 'node:fs'
import { lstat, readdir, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { pack, type Pack } from 'tar-stream'

/**
 * Streams every file below `dir`, as .dockerignore lies in it the builder leaves out what it names. Folders come before
 * what is in them; sockets and devices are left out. `.git` is left out: it makes every build's cache stale.
 */
export function folderTar(dir: string): Readable {
  const tar = pack()
  add(tar, dir, '').then(() => tar.finalize(), (e: Error) => tar.destroy(e))
  return tar as unknown as Readable
}

async function add(tar: Pack, dir: string, prefix: string): Promise<void> {
  for (const name of (await readdir(dir)).sort()) {
    if (prefix === '' && name === '.git') continue
    const path = join(dir, name)
    const s = await lstat(path)
    const header = { name: prefix + name, mode: s.mode & 0o7777, mtime: s.mtime, uid: 0, gid: 0 }
    if (s.isDirectory()) {
      await entry(tar, { ...header, name: `${header.name}/`, type: 'directory' })
      await add(tar, path, `${header.name}/`)
    } else if (s.isSymbolicLink()) {
      await entry(tar, { ...header, type: 'symlink', linkname: await readlink(path) })
    } else if (s.isFile()) {
      const out = tar.entry({ ...header, size: s.size })
      // A file that grows meanwhile must not run over the size its header promised.
      if (s.size > 0) createReadStream(path, { end: s.size - 1 }).on('error', e => tar.destroy(e)).pipe(out)
      else out.end(undefined)
      await finished(out as unknown as NodeJS.WritableStream)
    }
  }
}

function entry(tar: Pack, header: Parameters<Pack['entry']>[0]): Promise<void> {
  return new Promise((resolve, reject) => tar.entry(header, '', e => e == null ? resolve() : reject(e)))
}
