import type { Readable } from 'node:stream'
import { pack } from 'tar-stream'

/** A build context of files; a value that begins with `->` is a symbolic link, a name ending in `/` a directory. */
export function contextOf(files: Record<string, string>): Readable {
  const tar = pack()
  for (const [name, body] of Object.entries(files)) {
    if (name.endsWith('/')) tar.entry({ name, type: 'directory' })
    else if (body.startsWith('->')) tar.entry({ name, type: 'symlink', linkname: body.slice(2) })
    else tar.entry({ name }, body)
  }
  tar.finalize()
  return tar as unknown as Readable
}
