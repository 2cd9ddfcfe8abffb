// The network of the variant `vnet`: function app, container groups and gateway each in a subnet of their own.
param location string
param tags object
param suffix string

@description('The first two numbers of its addresses, like 10.90; a /22 is taken.')
param prefix string

resource outbound 'Microsoft.Network/publicIPAddresses@2024-05-01' = {
  name: 'pip-nat-${suffix}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static' }
}

resource nat 'Microsoft.Network/natGateways@2024-05-01' = {
  name: 'ng-${suffix}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIpAddresses: [{ id: outbound.id }], idleTimeoutInMinutes: 4 }
}

resource groupsRules 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: 'nsg-groups-${suffix}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'autoscaler-and-front-to-replicas'
        properties: { priority: 100, direction: 'Inbound', access: 'Allow', protocol: 'Tcp', sourceAddressPrefix: '${prefix}.0.0/24', sourcePortRange: '*', destinationAddressPrefix: '*', destinationPortRange: '8000' }
      }
      {
        name: 'front-to-replicas'
        properties: { priority: 110, direction: 'Inbound', access: 'Allow', protocol: 'Tcp', sourceAddressPrefix: '${prefix}.1.0/24', sourcePortRange: '*', destinationAddressPrefix: '*', destinationPortRange: '8000' }
      }
      {
        name: 'gateway-to-front'
        properties: { priority: 120, direction: 'Inbound', access: 'Allow', protocol: 'Tcp', sourceAddressPrefix: '${prefix}.2.0/24', sourcePortRange: '*', destinationAddressPrefix: '*', destinationPortRange: '8080' }
      }
      {
        name: 'nothing-else'
        properties: { priority: 4000, direction: 'Inbound', access: 'Deny', protocol: '*', sourceAddressPrefix: '*', sourcePortRange: '*', destinationAddressPrefix: '*', destinationPortRange: '*' }
      }
    ]
  }
}

resource gatewayRules 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: 'nsg-gateway-${suffix}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'clients'
        properties: { priority: 100, direction: 'Inbound', access: 'Allow', protocol: 'Tcp', sourceAddressPrefix: 'Internet', sourcePortRange: '*', destinationAddressPrefix: '*', destinationPortRange: '443' }
      }
      {
        name: 'gateway-manager'
        properties: { priority: 110, direction: 'Inbound', access: 'Allow', protocol: 'Tcp', sourceAddressPrefix: 'GatewayManager', sourcePortRange: '*', destinationAddressPrefix: '*', destinationPortRange: '65200-65535' }
      }
      {
        name: 'probes-of-azure'
        properties: { priority: 120, direction: 'Inbound', access: 'Allow', protocol: '*', sourceAddressPrefix: 'AzureLoadBalancer', sourcePortRange: '*', destinationAddressPrefix: '*', destinationPortRange: '*' }
      }
    ]
  }
}

resource functionsRules 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: 'nsg-functions-${suffix}'
  location: location
  tags: tags
  properties: { securityRules: [] }
}

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: 'vnet-${suffix}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: ['${prefix}.0.0/22'] }
    subnets: [
      {
        name: 'functions'
        properties: {
          addressPrefix: '${prefix}.0.0/24'
          natGateway: { id: nat.id }
          networkSecurityGroup: { id: functionsRules.id }
          serviceEndpoints: [{ service: 'Microsoft.Storage' }, { service: 'Microsoft.KeyVault' }]
          delegations: [{ name: 'functions', properties: { serviceName: 'Microsoft.App/environments' } }]
        }
      }
      {
        name: 'groups'
        properties: {
          addressPrefix: '${prefix}.1.0/24'
          natGateway: { id: nat.id }
          networkSecurityGroup: { id: groupsRules.id }
          serviceEndpoints: [{ service: 'Microsoft.Storage' }]
          delegations: [{ name: 'groups', properties: { serviceName: 'Microsoft.ContainerInstance/containerGroups' } }]
        }
      }
      {
        name: 'gateway'
        properties: {
          addressPrefix: '${prefix}.2.0/24'
          networkSecurityGroup: { id: gatewayRules.id }
          serviceEndpoints: [{ service: 'Microsoft.KeyVault' }]
        }
      }
    ]
  }
}

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: 'aci-autoscaler.internal'
  location: 'global'
  tags: tags
}

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = {
  parent: zone
  name: 'vnet'
  location: 'global'
  properties: { virtualNetwork: { id: network.id }, registrationEnabled: false }
}

output networkName string = network.name
output functionsSubnetId string = resourceId('Microsoft.Network/virtualNetworks/subnets', network.name, 'functions')
output groupsSubnetId string = resourceId('Microsoft.Network/virtualNetworks/subnets', network.name, 'groups')
output gatewaySubnetId string = resourceId('Microsoft.Network/virtualNetworks/subnets', network.name, 'gateway')
output zoneName string = zone.name
output zoneId string = zone.id
