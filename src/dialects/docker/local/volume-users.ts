/** Who has a volume mounted: a container that runs by its id, one whose files are looked at while it does not by this. */

const FILES = '/files'

export function filesUser(containerId: string): string { return `${containerId}${FILES}` }

/** The container's id. */
export function ownerOf(user: string): string { return user.endsWith(FILES) ? user.slice(0, -FILES.length) : user }
