/** All routes of the API, in the order in which they are tried. */
import type { Handler } from '../call.ts'
import type { Route } from '../router.ts'
import { archiveRoutes } from './archive.ts'
import { buildRoutes } from './build.ts'
import { containerRoutes } from './containers.ts'
import { execRoutes } from './exec.ts'
import { imageRoutes } from './images.ts'
import { networkRoutes } from './networks.ts'
import { absentRoutes } from './absent.ts'
import { streamRoutes } from './streams.ts'
import { systemRoutes } from './system.ts'
import { volumeRoutes } from './volumes.ts'

export const routes: readonly Route<Handler>[] = [
  ...absentRoutes, ...systemRoutes, ...streamRoutes, ...archiveRoutes, ...execRoutes, ...containerRoutes, ...imageRoutes, ...buildRoutes,
  ...networkRoutes, ...volumeRoutes,
]
