// Custom roles: exactly the actions that the adapters use. roles.json is the one source: the stand-in of Azure that runs
// on a laptop refuses whatever is not in it, and a test compares it with the calls that are really made.
targetScope = 'subscription'

@description('Makes the names of the roles unique in the tenant.')
param suffix string

@description('The resource group that the roles can be given in.')
param resourceGroupName string

var roles = loadJsonContent('roles.json')
var inGroup = [subscriptionResourceId('Microsoft.Resources/resourceGroups', resourceGroupName)]
var inSubscription = [subscription().id]

resource groups 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, suffix, 'groups')
  properties: {
    roleName: 'ACI Autoscaler groups ${suffix}'
    description: roles.groups.description
    type: 'CustomRole'
    permissions: [{ actions: roles.groups.actions, notActions: [], dataActions: [], notDataActions: [] }]
    assignableScopes: inGroup
  }
}

resource regions 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, suffix, 'regions')
  properties: {
    roleName: 'ACI Autoscaler regions ${suffix}'
    description: roles.regions.description
    type: 'CustomRole'
    permissions: [{ actions: roles.regions.actions, notActions: [], dataActions: [], notDataActions: [] }]
    assignableScopes: inSubscription
  }
}

resource identities 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, suffix, 'identities')
  properties: {
    roleName: 'ACI Autoscaler identities ${suffix}'
    description: roles.identities.description
    type: 'CustomRole'
    permissions: [{ actions: roles.identities.actions, notActions: [], dataActions: [], notDataActions: [] }]
    assignableScopes: inGroup
  }
}

resource subnets 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, suffix, 'subnets')
  properties: {
    roleName: 'ACI Autoscaler subnets ${suffix}'
    description: roles.subnets.description
    type: 'CustomRole'
    permissions: [{ actions: roles.subnets.actions, notActions: [], dataActions: [], notDataActions: [] }]
    assignableScopes: inGroup
  }
}

resource records 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, suffix, 'records')
  properties: {
    roleName: 'ACI Autoscaler records ${suffix}'
    description: roles.records.description
    type: 'CustomRole'
    permissions: [{ actions: roles.records.actions, notActions: [], dataActions: [], notDataActions: [] }]
    assignableScopes: inGroup
  }
}

resource logs 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, suffix, 'logs')
  properties: {
    roleName: 'ACI Autoscaler logs ${suffix}'
    description: roles.logs.description
    type: 'CustomRole'
    permissions: [{ actions: roles.logs.actions, notActions: [], dataActions: [], notDataActions: [] }]
    assignableScopes: inGroup
  }
}

output groupsId string = groups.id
output regionsId string = regions.id
output identitiesId string = identities.id
output subnetsId string = subnets.id
output recordsId string = records.id
output logsId string = logs.id
