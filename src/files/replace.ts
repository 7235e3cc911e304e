/**
 * Files that are replaced whole: a reader, or the next process after a crash, finds the old text or the new, never a part.
 * All are readable by their owner only (0600). The folder must be there. This room imports nothing, so every room may use it.
 */
import { renameSync, writeFileSync } from 'node:fs'
import { open, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'

const MODE = 0o600
const temporaryOf = (path: string): string => `${path}.new`

/** Not synced: for what can be had again after the machine lost power. Writers of one path must take turns. */
export async function replaceFile(path: string, text: string): Promise<void> {
  await writeFile(temporaryOf(path), text, { mode: MODE })
  await rename(temporaryOf(path), path)
}

/** As {@link replaceFile}; for small files on a hot path a turn through the thread pool costs more than the write. */
export function replaceFileSync(path: string, text: string): void {
  writeFileSync(temporaryOf(path), text, { mode: MODE })
  renameSync(temporaryOf(path), path)
}

/** Resolves when the text survives a loss of power. Processes may compete; one of them wins. */
export async function replaceFileDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.new`
  await withHandle(temporary, 'w', async file => {
    await file.writeFile(text)
    await file.sync()
  })
  await rename(temporary, path)
  // The new name is in the folder, which has to be on disk as well.
  await withHandle(dirname(path), 'r', folder => folder.sync())
}

async function withHandle(path: string, flags: string, work: (file: Awaited<ReturnType<typeof open>>) => Promise<void>): Promise<void> {
  const file = await open(path, flags, MODE)
  try {
    await work(file)
  } finally {
    await file.close()
  }
}
