import { sdk } from './sdk'

// The service is stopped while its volume is copied, so the copy is one moment.
export const { createBackup, restoreInit } = sdk.setupBackups(async () =>
  sdk.Backups.ofVolumes('main'),
)
