/** Keeps compiled code between runs. The default place would be in /tmp, where others may write. */
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'

/** In the checkout, or nowhere if that is not writable. */
enableCompileCache(fileURLToPath(new URL('../../.gantry/compile-cache', import.meta.url)))
