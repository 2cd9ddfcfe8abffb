// Everything that a deployment needs, but for the container groups: the autoscaler makes those, the front among them.
// Never compiled by the Bicep compiler nor deployed by us: see docs/deploy.md for what was checked instead.
targetScope = 'subscription'

@description('Names the deployment; azd asks for it. No effect on the price.')
@minLength(1)
@maxLength(24)
param environmentName string

@description('Region of everything but the replicas, whose regions are in autoscaler.yaml. Prices differ by some ten percent between regions, so by about 5 a month.')
param location string

@description('public: Envoy and replicas have public addresses; nothing to pay but what runs. vnet: all private, NAT gateway (about 33 a month) and Application Gateway (about 180, with firewall about 325) are added.')
@allowed(['public', 'vnet'])
param variant string = 'public'

@description('Whoever deploys; may then run `doctor` against the tables. No effect on the price.')
param principalId string = ''

@description('Who is told by alerts and budget. No effect on the price; four log alerts cost about 6 a month together.')
param alertEmail string = ''

@description('What the resource group may cost a month, in the currency of the account; told at 50, 80 and 100 percent. A budget is free.')
@minValue(1)
param monthlyBudget int = 100

@description('First day of the month that the budget begins in, as 2026-12-01; `infra/ship.py prepare` sets it once. No effect on the price.')
param budgetStart string

@description('When the autoscaler ticks, six fields. Every 15 s is about 88 thousand GB-seconds a month of the 100 thousand that are free; every 5 s is about 260 thousand, some 4 a month.')
param tickSchedule string = '*/15 * * * * *'

@description('Half of the ticks that come in ten minutes by that schedule; fewer raise an alert. No effect on the price.')
param ticksExpected int = 20

@description('keys: function keys. entra: App Service authentication, which has to be set up first (docs/deploy.md). No effect on the price.')
@allowed(['keys', 'entra'])
param auth string = 'keys'

@description('Memory of a function instance in MB. 2048 costs four times as much a second as 512; 512 is enough (bench/package.py).')
@allowed([512, 2048, 4096])
param memoryMb int = 512

@description('Most function instances at once. Only what runs is paid for: no effect on the price at rest; all 40 of 512 MB, busy for an hour, are about 2.')
@minValue(40)
param maxInstances int = 40

@description('Function instances kept warm for the tick. 0 is free; one of 512 MB is about 5 a month, and ticks every 15 s keep one warm anyway.')
param alwaysReady int = 0

@description('Basic: about 5 a month, 10 GB. Standard: about 20, 100 GB. Premium: about 50, for private endpoints.')
@allowed(['Basic', 'Standard', 'Premium'])
param registrySku string = 'Basic'

@description('Days that logs are kept. Up to 30 are free; then about 0.10 a GB and month.')
@minValue(30)
param retentionDays int = 30

@description('Most GB of logs a day; each GB is about 2.50, five a month are free. An autoscaler with two services writes about 0.02 a day.')
param logCapGb int = 1

@description('vnet: the first two numbers of its addresses; a /22 is taken. No effect on the price.')
param addressPrefix string = '10.90'

@description('Address of the certificate in Key Vault, without a version. public: Envoy serves with it. vnet: the gateway does, and is made only once it is set. No effect on the price.')
param certificateSecretId string = ''

@description('vnet: web application firewall in the gateway. About 145 a month more than without.')
param firewall bool = false

@description('vnet: least instances of the gateway. Each one more is about 60 a month even when idle; 1 is slower to grow.')
param gatewayMinInstances int = 1

@description('vnet: most instances of the gateway. Each one that load brings is about 60 a month as long as it is there.')
param gatewayMaxInstances int = 5

@description('Tag of the images of replica and discovery, set by `infra/ship.py images`. No effect on the price.')
param imageTag string = ''

@description('Envoy in the registry, mirrored there by `infra/ship.py images`. No effect on the price.')
param envoyImage string = 'envoy:v1.40.0'

@description('What replicas ask for before they drain or tell their state; azd makes one and keeps it in Key Vault. No effect on the price.')
@secure()
param replicaToken string

@description('public: replicas serve TLS, each with a certificate of its own that the autoscaler signs. Off for a server that cannot (it has to read TLS_CERTIFICATE): then nothing between Envoy and replicas is encrypted. Switching it is a rollout. No effect on the price.')
param replicaTls bool = true

@description('What the authority that signs certificates of replicas is derived from; azd makes one and keeps it in Key Vault. Two with a blank between: the first signs, both are trusted. No effect on the price.')
@secure()
param replicaAuthority string

@description('Webhook that hears of events; its address may hold a key, so it is kept in Key Vault. Empty: none. A call each time something happens, some hundred a month: no effect on the price.')
@secure()
param eventsUrl string = ''

@description('What events are signed with; kept in Key Vault. Empty: they are not signed. No effect on the price.')
@secure()
param eventsSecret string = ''

@description('Logs of the function host into the workspace, beside Application Insights: they are there when that is not. About 0.01 GB a day, 0.7 a month beyond the five GB that are free.')
param hostLogs bool = true

var suffix = take(uniqueString(subscription().id, environmentName, location), 8)
var tags = { 'azd-env-name': environmentName }
var inNetwork = variant == 'vnet'
var deploymentId = 'aci-${suffix}'

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module roles 'app/roles.bicep' = {
  name: 'roles'
  params: { suffix: suffix, resourceGroupName: group.name }
}

module identities 'app/identities.bicep' = {
  name: 'identities'
  scope: group
  params: { location: location, tags: tags, suffix: suffix }
}

module monitoring 'app/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: { location: location, tags: tags, suffix: suffix, retentionDays: retentionDays, dailyCapGb: logCapGb }
}

module network 'app/network.bicep' = if (inNetwork) {
  name: 'network'
  scope: group
  params: { location: location, tags: tags, suffix: suffix, prefix: addressPrefix }
}

module storage 'app/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    subnetIds: inNetwork ? [network.outputs.functionsSubnetId, network.outputs.groupsSubnetId] : []
    workspaceId: monitoring.outputs.workspaceId
  }
}

module vault 'app/vault.bicep' = {
  name: 'vault'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    subnetIds: inNetwork ? [network.outputs.functionsSubnetId, network.outputs.gatewaySubnetId] : []
    workspaceId: monitoring.outputs.workspaceId
    replicaToken: replicaToken
    replicaAuthority: replicaAuthority
    eventsUrl: eventsUrl
    eventsSecret: eventsSecret
  }
}

module registry 'app/registry.bicep' = {
  name: 'registry'
  scope: group
  params: { location: location, tags: tags, suffix: suffix, sku: registrySku, workspaceId: monitoring.outputs.workspaceId }
}

module rights 'app/rights.bicep' = {
  name: 'rights'
  scope: group
  params: {
    roles: {
      groups: roles.outputs.groupsId
      identities: roles.outputs.identitiesId
      subnets: roles.outputs.subnetsId
      records: roles.outputs.recordsId
      logs: roles.outputs.logsId
    }
    autoscalerPrincipalId: identities.outputs.autoscalerPrincipalId
    replicaPrincipalId: identities.outputs.replicaPrincipalId
    frontPrincipalId: identities.outputs.frontPrincipalId
    gatewayPrincipalId: identities.outputs.gatewayPrincipalId
    replicaIdentityName: identities.outputs.replicaName
    frontIdentityName: identities.outputs.frontName
    storageName: storage.outputs.name
    registryName: registry.outputs.name
    vaultName: vault.outputs.name
    workspaceName: monitoring.outputs.workspaceName
    insightsName: monitoring.outputs.insightsName
    networkName: inNetwork ? network.outputs.networkName : ''
    zoneName: inNetwork ? network.outputs.zoneName : ''
    personId: principalId
  }
}

module regions 'app/regions.bicep' = {
  name: 'regions'
  params: { roleId: roles.outputs.regionsId, principalId: identities.outputs.autoscalerPrincipalId }
}

module autoscaler 'app/function.bicep' = {
  name: 'function'
  scope: group
  dependsOn: [rights]
  params: {
    location: location
    tags: tags
    suffix: suffix
    deploymentId: deploymentId
    identityId: identities.outputs.autoscalerId
    clientId: identities.outputs.autoscalerClientId
    insightsName: monitoring.outputs.insightsName
    workspaceCustomerId: monitoring.outputs.workspaceCustomerId
    storageName: storage.outputs.name
    packagesName: storage.outputs.packagesName
    tickSchedule: tickSchedule
    auth: auth
    memoryMb: memoryMb
    maxInstances: maxInstances
    alwaysReady: alwaysReady
    subnetId: inNetwork ? network.outputs.functionsSubnetId : ''
    replicaTokenUri: vault.outputs.tokenUri
    replicaAuthorityUri: inNetwork ? '' : vault.outputs.authorityUri
    replicaTls: replicaTls
    eventsUrlUri: empty(eventsUrl) ? '' : '${vault.outputs.uri}secrets/eventsUrl'
    eventsSecretUri: empty(eventsSecret) ? '' : '${vault.outputs.uri}secrets/eventsSecret'
    workspaceId: monitoring.outputs.workspaceId
    hostLogs: hostLogs
    frontCertificateUri: inNetwork ? '' : certificateSecretId
    registryServer: registry.outputs.loginServer
    replicaIdentityId: identities.outputs.replicaId
    imageTag: imageTag
    envoyImage: envoyImage
    frontIdentityId: identities.outputs.frontId
    frontClientId: identities.outputs.frontClientId
    frontSubnetId: inNetwork ? network.outputs.groupsSubnetId : ''
    frontZoneId: inNetwork ? network.outputs.zoneId : ''
  }
}

module gateway 'app/gateway.bicep' = if (inNetwork && !empty(certificateSecretId)) {
  name: 'gateway'
  scope: group
  dependsOn: [rights]
  params: {
    location: location
    tags: tags
    suffix: suffix
    subnetId: inNetwork ? network.outputs.gatewaySubnetId : ''
    identityId: identities.outputs.gatewayId
    workspaceId: monitoring.outputs.workspaceId
    frontName: 'front.aci-autoscaler.internal'
    certificateSecretId: certificateSecretId
    firewall: firewall
    minInstances: gatewayMinInstances
    maxInstances: gatewayMaxInstances
  }
}

module events 'app/events.bicep' = {
  name: 'events'
  scope: group
  params: {
    tags: tags
    suffix: suffix
    storageName: storage.outputs.name
    queueName: storage.outputs.queueName
    workspaceId: monitoring.outputs.workspaceId
  }
}

module alerts 'app/alerts.bicep' = {
  name: 'alerts'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    workspaceId: monitoring.outputs.workspaceId
    alertEmail: alertEmail
    ticksExpected: ticksExpected
  }
}

module budget 'app/budget.bicep' = {
  name: 'budget'
  scope: group
  params: { suffix: suffix, amount: monthlyBudget, startDate: budgetStart, actionGroupId: alerts.outputs.actionGroupId, alertEmail: alertEmail }
}

output AZURE_RESOURCE_GROUP string = group.name
output AUTOSCALER_RESOURCE_GROUP string = group.name
output AUTOSCALER_DEPLOYMENT_ID string = deploymentId
output AUTOSCALER_TABLE_ENDPOINT string = storage.outputs.tableEndpoint
output AUTOSCALER_URL string = autoscaler.outputs.url
output AUTOSCALER_APP string = autoscaler.outputs.name
output AZURE_CONTAINER_REGISTRY_NAME string = registry.outputs.name
output AZURE_CONTAINER_REGISTRY_ENDPOINT string = registry.outputs.loginServer
output AZURE_KEY_VAULT_NAME string = vault.outputs.name
output ENVOY_IMAGE string = envoyImage
output FRONT_URL string = inNetwork ? (empty(certificateSecretId) ? '' : gateway.outputs.url) : '${empty(certificateSecretId) ? 'http' : 'https'}://aci-autoscaler-${suffix}.${location}.azurecontainer.io${empty(certificateSecretId) ? ':8080' : ''}'
