import type { Score } from './score.ts'

const MIB = 1024 * 1024
/** Below this an image is pulled in no time; above the other one (for each container) more does not matter more. */
const LEAST_BYTES = 23 * MIB
const MOST_BYTES = 1000 * MIB

/** Names as nodes list them: `web` is there as `docker.io/library/web:latest`. */
function spellings(image: string): string[] {
  const tagged = image.includes('@') || image.lastIndexOf(':') > image.lastIndexOf('/') ? image : `${image}:latest`
  const first = tagged.split('/')[0]!
  const hasHost = tagged.includes('/') && (first.includes('.') || first.includes(':') || first === 'localhost')
  if (hasHost) return [tagged]
  return [tagged, tagged.includes('/') ? `docker.io/${tagged}` : `docker.io/library/${tagged}`]
}

/** Favours nodes that hold the Pod's images already. */
export const imageLocality: Score = {
  name: 'ImageLocality',
  prepare(cls, snapshot) {
    const images = cls.images.map(spellings)
    if (images.length === 0) return undefined
    const most = MOST_BYTES * images.length
    let anywhere: string[][] = []
    return {
      begin() { anywhere = images.filter((names) => names.some((n) => snapshot.nodesWithImage(n) > 0)) },
      score(node) {
        let held = 0
        for (const names of anywhere) {
          const name = names.find((n) => node.images.has(n))
          if (name !== undefined) held += node.images.get(name)!
        }
        return 100 * (Math.max(LEAST_BYTES, Math.min(most, held)) - LEAST_BYTES) / (most - LEAST_BYTES)
      },
      // Where all nodes have an image, or none has, it leads nowhere.
      guides: () => anywhere.some((names) => names.some((name) => {
        const n = snapshot.nodesWithImage(name)
        return n > 0 && n < snapshot.nodeCount
      })),
    }
  },
}
