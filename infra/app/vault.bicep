// The secrets of a deployment: the token that replicas ask for, what their certificates are signed by, the webhook of
// events where there is one. The certificate of the front is imported by whoever has it.
param location string
param tags object
param suffix string
param workspaceId string

@description('Subnets that may reach it; none: any network may, with a token of Entra ID.')
param subnetIds array

@secure()
param replicaToken string

@secure()
param replicaAuthority string

@secure()
param eventsUrl string

@secure()
param eventsSecret string

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  // checkov:skip=CKV_AZURE_109: the variant vnet denies by default; public has no network to allow, so Entra ID alone decides
  // checkov:skip=CKV_AZURE_189: see CKV_AZURE_109: Entra ID decides, and vnet denies by default
  // checkov:skip=CKV_AZURE_110: purge protection would keep `azd down --purge` from leaving nothing; what is kept here can be made anew
  // checkov:skip=CKV_AZURE_42: soft delete is on for 7 days; see CKV_AZURE_110
  name: 'kv-${suffix}'
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 7
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: empty(subnetIds) ? 'Allow' : 'Deny'
      virtualNetworkRules: [for id in subnetIds: { id: id }]
    }
  }
}

resource token 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = {
  // checkov:skip=CKV_AZURE_41: an expired token would take every replica out of sight at once; docs/deploy.md says how to change it
  parent: vault
  name: 'replicaToken'
  properties: { value: replicaToken, contentType: 'text/plain' }
}

resource authority 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = {
  // checkov:skip=CKV_AZURE_41: as for replicaToken: expired, it would take every replica out of sight
  parent: vault
  name: 'replicaAuthority'
  properties: { value: replicaAuthority, contentType: 'text/plain' }
}

resource eventsAddress 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(eventsUrl)) {
  // checkov:skip=CKV_AZURE_114: it is set below; checkov does not look into a resource with a condition
  // checkov:skip=CKV_AZURE_41: whoever runs the webhook decides when its address ends
  parent: vault
  name: 'eventsUrl'
  properties: { value: eventsUrl, contentType: 'text/plain' }
}

resource eventsKey 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(eventsSecret)) {
  // checkov:skip=CKV_AZURE_114: it is set below; checkov does not look into a resource with a condition
  // checkov:skip=CKV_AZURE_41: as for eventsUrl: whoever runs the webhook decides
  parent: vault
  name: 'eventsSecret'
  properties: { value: eventsSecret, contentType: 'text/plain' }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'to-workspace'
  properties: { workspaceId: workspaceId, logs: [{ category: 'AuditEvent', enabled: true }] }
}

output name string = vault.name
output tokenUri string = token.properties.secretUri
output authorityUri string = authority.properties.secretUri
output uri string = vault.properties.vaultUri
