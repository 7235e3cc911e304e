/** Which requests may upgrade their connection: attach and the start of an exec. */
const UPGRADABLE = /^(?:\/v[\d.]+)?\/(?:containers\/.+\/attach(?:\/ws)?|exec\/.+\/start)(?:\?|$)/

export function isUpgradable(url: string | undefined): boolean { return UPGRADABLE.test(url ?? '') }
