// Who acts: the autoscaler, a replica, the front, the gateway. No passwords, no certificates of their own.
param location string
param tags object
param suffix string

resource autoscaler 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-autoscaler-${suffix}'
  location: location
  tags: tags
}

resource replica 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-replica-${suffix}'
  location: location
  tags: tags
}

resource front 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-front-${suffix}'
  location: location
  tags: tags
}

resource gateway 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-gateway-${suffix}'
  location: location
  tags: tags
}

output autoscalerName string = autoscaler.name
output autoscalerId string = autoscaler.id
output autoscalerClientId string = autoscaler.properties.clientId
output autoscalerPrincipalId string = autoscaler.properties.principalId
output replicaName string = replica.name
output replicaId string = replica.id
output replicaPrincipalId string = replica.properties.principalId
output frontName string = front.name
output frontId string = front.id
output frontClientId string = front.properties.clientId
output frontPrincipalId string = front.properties.principalId
output gatewayId string = gateway.id
output gatewayPrincipalId string = gateway.properties.principalId
